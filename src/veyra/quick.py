"""Frozen values that are made as quickly as others.

A frozen dataclass sets each of its fields by a call of `object.__setattr__`, as an assignment would be refused. An answer
is some hundred fields, and setting them so is a twelfth of what a call costs. `quick` makes an instance of an ordinary
class with the same slots, assigns, and gives it its own class last: a third of the time. What comes out is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

_T = TypeVar("_T")


def quick(cls: type[_T]) -> type[_T]:
    """Return a frozen dataclass that makes its instances quickly; to be put above `@dataclass(frozen=True, slots=True)`.

    It has slots, no base class and no `__post_init__`. Classes derived from it make their instances as dataclasses do.
    """
    assert cls.__base__ is object
    assert not hasattr(cls, "__post_init__")
    slowly: Callable[..., None] = cls.__init__
    parameters = list(signature(slowly).parameters.values())[1:]
    names: dict[str, Any] = {
        "cls": cls,
        "draft": type(cls.__name__, (), {"__slots__": tuple(field.name for field in fields(cls))}),  # type: ignore[arg-type]
        "slowly": slowly,
        "assign": object.__setattr__,
    }
    head, handed, body = ["self"], ["self"], ["assign(self, '__class__', draft)"]
    factories = {field.name: field.default_factory for field in fields(cls) if field.default_factory is not MISSING}  # type: ignore[arg-type]
    for parameter in parameters:
        name = parameter.name
        is_named = parameter.kind is parameter.KEYWORD_ONLY
        if is_named and "*" not in head:
            head.append("*")
        if parameter.default is parameter.empty:
            head.append(name)
        else:
            names[f"default_{name}"] = parameter.default
            head.append(f"{name}=default_{name}")
        handed.append(f"{name}={name}" if is_named else name)
        value = name
        if name in factories:
            names[f"make_{name}"] = factories[name]
            value = f"make_{name}() if {name} is default_{name} else {name}"
        body.append(f"self.{name} = {value}")
    lines = [
        f"def __init__({', '.join(head)}):",
        "  if type(self) is not cls:",
        f"    return slowly({', '.join(handed)})",
        *(f"  {line}" for line in body),
        "  self.__class__ = cls",
    ]
    exec("\n".join(lines), names)  # noqa: S102  (its text is made of the names of fields, as that of dataclasses is)
    type.__setattr__(cls, "__init__", wraps(slowly)(names["__init__"]))
    return cls

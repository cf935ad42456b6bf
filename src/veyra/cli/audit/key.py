"""`veyra audit key`: the key that signs the log's checkpoints."""

from __future__ import annotations

from pathlib import Path

import click

from veyra.audit import custody, keys
from veyra.audit.anchors import origin_of
from veyra.audit.keys import Places
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.audit.places import places_options
from veyra.errors import AuditError


@click.group("key")
def command() -> None:
    """Make, show and replace the key that signs the log's checkpoints.

    The key is kept outside the log: in the file that VEYRA_AUDIT_KEY names, or in the user's state directory. What the
    commands print is its public half, the verifier key: give it to those who are to check the log.

    \b
    Example:
      veyra audit key generate
      veyra audit key show
    """  # noqa: D301  (\b keeps the lines of the example)


@command.command("generate")
@directory_option
@places_options
@click.option("--name", metavar="NAME", help="What to call the key, instead of what the log is called.")
def generate(*, directory: Path, key_file: Path | None, heads: Path | None, name: str | None) -> None:
    """Make the log's key, and sign the log with it from now on.

    The log is made if it is not there. Programs that have it open already sign from their next start.

    \b
    Example:
      veyra audit key generate
    """  # noqa: D301  (\b keeps the lines of the example)
    places = Places(key_file, heads)
    key = custody.generate(directory, places, name)
    show.note(
        f"the signing key is at {places.key_of(origin_of(directory) or '')}; what was signed last is kept apart, too"
    )
    show.line(key.text)


@command.command("show")
@directory_option
@places_options
def show_key(*, directory: Path, key_file: Path | None, heads: Path | None) -> None:
    """Print the verifier key, the public half of the log's key; two while it is being replaced, the new one first.

    \b
    Example:
      veyra audit key show
    """  # noqa: D301  (\b keeps the lines of the example)
    path = Places(key_file, heads).key_of(_origin(directory))
    try:
        found = keys.read(path)
    except FileNotFoundError:
        msg = f"the log at {directory} has no key: there is nothing at {path}"
        raise AuditError(msg) from None
    for key in found:
        show.line(key.verifier.text)


@command.command("rotate")
@directory_option
@places_options
def rotate(*, directory: Path, key_file: Path | None, heads: Path | None) -> None:
    """Replace the log's key by a new one.

    The old key signs the handing over, which becomes an entry of the log; whoever has the old verifier key can go on
    from it. Programs that write the log need no restart. The old signing key is removed.

    \b
    Example:
      veyra audit key rotate
    """  # noqa: D301  (\b keeps the lines of the example)
    _origin(directory)
    old, new = custody.rotate(directory, Places(key_file, heads))
    show.note(f"{old.name}+{old.id.hex()} handed over to {new.name}+{new.id.hex()}")
    show.line(new.text)


def _origin(directory: Path) -> str:
    origin = origin_of(directory)
    if origin is None:
        msg = f"there is no audit log at {directory}"
        raise AuditError(msg)
    return origin

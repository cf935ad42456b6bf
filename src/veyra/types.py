"""The values that everything else is made of: frozen, slotted, without behaviour of any provider.

A call is described by a `Request` of `Message`s. What comes back is a sequence of `Event`s, a closed union, ended
by exactly one `Finish`; collected, they are a `ModelResponse`. No vendor's name appears in this file.

Units: times in seconds (latencies in milliseconds), usage in tokens, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypedDict

from veyra.errors import InvalidRequestError
from veyra.quick import quick

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "paused", "other"]
MediaKind: TypeAlias = Literal["image", "audio", "document"]

ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


class Secret:
    """A key that does not show itself: `repr`, `str` and format give a mask; `reveal()` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself; call it only where it leaves for the provider or is looked for to redact it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple[object, ...]:
        msg = "a Secret is not pickled: hand over the key where it is used"
        raise TypeError(msg)


# ---------------------------------------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class Text:
    """Text, as the user or the model wrote it."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An image, a sound or a document: exactly one of `data`, `url` and `file_id` is set."""

    kind: MediaKind
    media_type: str | None = None
    data: bytes | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model says of its thinking; `signature` is the provider's seal over it, if it gave one."""

    text: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool: `arguments` parsed, or None where `raw` is not a JSON object.

    `raw` is what the model wrote, byte for byte where the dialect carries text.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back for the call `id`."""

    id: str
    content: str
    name: str | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Opaque:
    """A provider's own block, kept as it came: `raw` is its JSON, replayed untouched to the same `dialect`."""

    dialect: str
    raw: bytes


Part: TypeAlias = Text | Media | Reasoning | ToolCall | ToolResult | Opaque
_PARTS = (Text, Media, Reasoning, ToolCall, ToolResult, Opaque)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: `system`, `user`, `assistant` or `tool`.
        content: a string, or a sequence of parts (kept as a tuple).
        native: the provider's own blocks; sent instead of `content` to the dialect they came from, so that
            signatures and encrypted items survive byte for byte.

    Raises:
        InvalidRequestError: the role is unknown or the content is of another type.
    """

    role: Role
    content: str | Sequence[Part]
    native: tuple[Opaque, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            msg = f"a message's role is one of {', '.join(ROLES)}, not {self.role!r}"
            raise InvalidRequestError(msg)
        if isinstance(self.content, str):
            if type(self.content) is not str:  # a template's str, say, has no JSON form
                object.__setattr__(self, "content", str.__str__(self.content))
            return
        if not isinstance(self.content, Sequence) or isinstance(self.content, bytes | bytearray):
            kind = type(self.content).__name__
            msg = f"a message's content is a str or a sequence of parts, not {kind}"
            raise InvalidRequestError(msg)
        for part in self.content:
            if not isinstance(part, _PARTS):
                msg = f"a message's parts are Text, Media, Reasoning, ToolCall, ToolResult or Opaque, not {type(part).__name__}"
                raise InvalidRequestError(msg)
        object.__setattr__(self, "content", tuple(self.content))

    @property
    def text(self) -> str:
        """The message's text parts, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts: a plain string is one `Text`."""
        if isinstance(self.content, str):
            return (Text(self.content),) if self.content else ()
        return tuple(self.content)


Prompt: TypeAlias = str | Sequence[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may ask for: `parameters` is a JSON Schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None


# ----------------------------------------------------------------------------------------------- request


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long an attempt may take, in seconds; None is no limit of that kind.

    Attributes:
        connect: until the connection stands, TLS included.
        first_token: from the start of the attempt until the first event with content (or the whole answer, when not
            streamed).
        between_events: of waiting for the next event with content; keep-alives do not reset it (wire facts, 0.9), and what
            the caller takes over an event does not count.
        total: for the whole attempt, the caller's own time included.
    """

    connect: float | None = 10.0
    first_token: float | None = 600.0
    between_events: float | None = 120.0
    total: float | None = 1800.0


class RunOptions(TypedDict, total=False):
    """What each call of a run of tools can be told: every option of a call but the tools themselves."""

    model: str
    system: str
    max_tokens: int
    temperature: float
    top_p: float
    stop: str | Sequence[str]
    seed: int
    tool_choice: str
    output: Any
    repair: int
    reasoning: str | int
    cache: Any
    timeout: float | Timeouts
    metadata: Mapping[str, str]
    extra: Mapping[str, Any]


class Options(RunOptions, total=False):
    """What a call can be told, with one spelling for all backends."""

    tools: Sequence[Any]


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call, independent of any provider: what `generate` and `stream` were given, checked.

    `prompt` is what the caller gave; `messages` is the same as a conversation (without `system`). An option that
    was not given is None or empty, and is then not sent.
    """

    prompt: Prompt
    messages: tuple[Message, ...]
    stream: bool = False
    model: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    output: Any = None
    repair: int | None = None
    reasoning: str | int | None = None
    cache: Any = None
    timeout: Timeouts | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


class EmbedOptions(TypedDict, total=False):
    """What `embed` can be told, with one spelling for all backends."""

    model: str
    dimensions: int
    timeout: float | Timeouts
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """One call for vectors, independent of any provider: what `embed` was given, checked.

    An option that was not given is None or empty, and is then not sent.
    """

    texts: tuple[str, ...]
    model: str | None = None
    dimensions: int | None = None
    timeout: Timeouts | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------ events


@quick
@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counted them; None is "not stated", which is not zero.

    Attributes:
        input_total: all input, cached tokens included.
        input_uncached: the part of it that came from no cache and went into none.
        cache_read, cache_write: the parts read from and written to the provider's prompt cache.
        output_total: all output, reasoning included.
        reasoning: the part of the output that is reasoning.
    """

    input_total: int | None = None
    input_uncached: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output_total: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model says of its thinking."""

    kind: ClassVar[str] = "reasoning"
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call: `index` tells calls apart; `id` and `name` come once, `arguments` in pieces."""

    kind: ClassVar[str] = "tool_call"
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ModelWarning:
    """Something that was asked for was not honoured, or something came back that was not asked for."""

    kind: ClassVar[str] = "warning"
    code: str
    message: str
    parameter: str | None = None


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of an answer: comes exactly once, last.

    Attributes:
        reason: why the model stopped, in our words; `raw_reason` in the provider's. None only from a backend of
            two methods that did not say.
        usage: tokens, as far as stated.
        model: the model that answered, which may name a dated version of the one asked for.
        response_id: the answer's own id, from its body; request_id: the exchange's, from a header.
        tool_calls: the calls whose deltas came before, assembled.
        parts: the provider's own blocks, for replay in the next turn.
    """

    kind: ClassVar[str] = "finish"
    reason: FinishReason | None
    raw_reason: str | None = None
    usage: Usage = Usage()
    model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    parts: tuple[Opaque, ...] = ()


Event: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | ModelWarning | Finish


# ---------------------------------------------------------------------------------------------- response


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Where a record stands in the log. Whoever keeps it can show later that the log was cut or changed.

    Attributes:
        origin: the log's name.
        id: the entry's own id.
        seq: its place in the log, counted from 0; None where it is not known yet.
        leaf_hash: the RFC 6962 leaf hash of the entry, in lower-case hex.
    """

    origin: str
    id: str
    seq: int | None
    leaf_hash: str


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt of a call: which backend, how it ended, what it used, and its log entry.

    Attributes:
        number: which attempt of the call it is, from 1.
        backend, model: who was asked, and which model answered (or was asked for, where none did).
        status: as in the log: `ok`, `error`, `timeout`, `cancelled` or `incomplete`.
        latency_ms: milliseconds from its start to its end, without the log's own time.
        error: the kind of the error that ended it (`veyra.errors`), or None.
        usage, cost: tokens and US dollars, as far as stated or known.
        receipt: where its outcome stands in the log; None with `audit="off"`.
        ambiguous: it failed, and the provider may have done the work and may bill it.
    """

    number: int
    backend: str
    model: str | None
    status: str
    latency_ms: float
    error: str | None = None
    usage: Usage = Usage()
    cost: Decimal | None = None
    receipt: Receipt | None = None
    ambiguous: bool = False


@quick
@dataclass(frozen=True, slots=True)
class ModelResponse:
    """One answer, in one form whichever backend gave it. The first seven fields are those of ADR-0001.

    Attributes:
        content: the answer's text; empty where the model only called tools.
        model: the model that answered, as the provider named it.
        backend: the name of the backend that served it.
        latency_ms: milliseconds from the request's start to the end of the answer, without the log's own time.
        prompt_tokens, completion_tokens: totals, cached and reasoning tokens included; 0 where the provider did
            not say, and then `usage.input_total` and `usage.output_total` are None.
        request_id: the provider's id of the exchange (its header), or of the answer where there is no header.
        finish_reason: why the model stopped; None only in a response made by hand.
        tool_calls, reasoning, output, usage, cost, warnings: see their types; `cost` is None where unknown.
        receipt: where the outcome stands in the log; None with `audit="off"`.
        attempts: every attempt made for this call, the last one being the one that answered.
        parts: the provider's own blocks, opaque; `message` carries them into the next turn.
        response_id: the answer's own id, from its body.
        raw_finish_reason: the provider's own word.
        cached: it is from a client's cache: nobody was asked, `receipt` stands for the hit, usage and cost are 0.
    """

    content: str
    model: str
    backend: str
    latency_ms: float
    prompt_tokens: int
    completion_tokens: int
    request_id: str | None
    _: KW_ONLY
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    output: Any = None
    usage: Usage = Usage()
    cost: Decimal | None = None
    warnings: tuple[ModelWarning, ...] = ()
    receipt: Receipt | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    parts: tuple[Opaque, ...] = ()
    response_id: str | None = None
    raw_finish_reason: str | None = None
    cached: bool = False

    @property
    def message(self) -> Message:
        """This answer as a turn to send back, with the provider's own blocks kept for the dialect they came from."""
        content: list[Part] = []
        if self.reasoning:
            content.append(Reasoning(self.reasoning))
        if self.content:
            content.append(Text(self.content))
        content.extend(self.tool_calls)
        return Message("assistant", tuple(content), native=self.parts)


# ------------------------------------------------------------------------------------------ runs of tools

ExecutionStatus: TypeAlias = Literal["ok", "error", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolExecution:
    """What came of one tool call of the model.

    Attributes:
        call: what the model asked for.
        result: what it was told.
        status: `ok`; `error`, where the function raised; `refused`, where it was not called: there is none of that name,
            or the arguments are not what it takes.
        latency_ms: milliseconds that the function took, without the log's own time; 0 where it was not called.
        error: the name of the exception that the function raised, or None.
        receipt: where its outcome stands in the log; None with `audit="off"`, and where it was not called.
    """

    call: ToolCall
    result: ToolResult
    status: ExecutionStatus
    latency_ms: float = 0.0
    error: str | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """A prompt, the tools that the model asked for on the way, and its answer.

    Attributes:
        responses: every answer of the model, in order; the last one is `response`.
        executions: every tool call, in the order in which the model asked for them.
        messages: the whole conversation, the last answer included, for the next prompt.
        usage, cost: tokens and US dollars of all attempts together; None where an attempt did not state its own and may
            have been billed.
    """

    responses: tuple[ModelResponse, ...]
    executions: tuple[ToolExecution, ...]
    messages: tuple[Message, ...]
    usage: Usage
    cost: Decimal | None

    @property
    def response(self) -> ModelResponse:
        """The last answer of the model."""
        return self.responses[-1]


# -------------------------------------------------------------------------- vectors, models, token counts

Vectors: TypeAlias = tuple[tuple[float, ...], ...]
"""One vector for each text, in the order of the texts.

Python floats hold every single-precision number a provider computes exactly, and every decimal it writes as nearly as
that can be; tuples are frozen, and `numpy.array(vectors)` takes them as they are.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What a backend found: the vectors, and what was said of them.

    Attributes:
        vectors: one for each text, in the order of the texts.
        usage: tokens, as far as stated.
        model: the model that answered, as the provider named it, or None.
        request_id: the provider's id of the exchange, or of the answer, or None.
    """

    vectors: Vectors = field(repr=False)
    usage: Usage = Usage()
    model: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingResponse:
    """The vectors of some texts, in one form whichever backend gave them.

    Attributes:
        vectors: one for each text, in the order of the texts, all of the same length.
        model: the model that answered, as the provider named it.
        backend: the name of the backend that served it.
        latency_ms: milliseconds from the request's start to the end of the answer, without the log's own time.
        usage: tokens; None is "not stated".
        cost: None where unknown.
        request_id: the provider's id of the exchange, or of the answer; None where there is neither.
        warnings: what was not honoured: vectors of another length than was asked for, say.
        receipt: where the outcome stands in the log; None with `audit="off"`.
        attempts: every attempt made for this call, the last one being the one that answered.
        cached: as of `ModelResponse`.
    """

    vectors: Vectors = field(repr=False)
    model: str
    backend: str
    latency_ms: float
    usage: Usage = Usage()
    cost: Decimal | None = None
    request_id: str | None = None
    warnings: tuple[ModelWarning, ...] = ()
    receipt: Receipt | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a provider tells of one of its models; None is "not told".

    Attributes:
        id: what `model=` takes.
        name: the name for people.
        created: when the model was made or published, in UTC.
        owned_by: whose it is, in the provider's word.
        context_window: tokens that it reads at most; where the provider counts what it writes among them, that too.
        max_output: tokens that it writes at most.
        capabilities: what it can (True) and cannot (False); what is not told is not in it. The words: `chat`, `embeddings`,
            `tools`, `reasoning`, `output` (keeps to a schema), `image`, `document`, `audio` (takes them as input).
        lifecycle: the provider's word for how far it is from its end (`active`, `deprecated`, `retired`).
        retires_at: when it is to stop answering, in UTC.
        raw: the provider's own JSON for it.
    """

    id: str
    name: str | None = None
    created: datetime | None = None
    owned_by: str | None = None
    context_window: int | None = None
    max_output: int | None = None
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    lifecycle: str | None = None
    retires_at: datetime | None = None
    raw: Opaque | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """How many tokens a prompt is.

    Attributes:
        tokens: the count, system text, tools and schema included.
        estimated: True where nobody who knows the model's tokens counted.
        source: who counted, and how.
    """

    tokens: int
    estimated: bool
    source: str

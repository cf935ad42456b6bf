"""A conversation: the turns so far, asked on with each prompt, kept in a file between two runs of a program."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Self, Unpack

from veyra.audit.entry import new_id
from veyra.client import conversation_file
from veyra.client.asker import Asker, check_asker, continued
from veyra.client.client import Client
from veyra.client.conversation_file import Saved
from veyra.errors import InvalidRequestError
from veyra.models.gate import Reply
from veyra.models.request import messages_of
from veyra.types import Event, Finish, Message, ModelResponse, Options, Prompt


class Conversation:
    """Asks with all that was said before, and keeps what was answered.

    A turn is kept when its answer has come whole and is on record. A prompt that fails, is cancelled or is not read to its
    end leaves the conversation as it was. One prompt at a time: what is said next depends on what was answered.

    Args:
        client: who is asked: a `Client`, or what `get_backend` returns.
        id: what tells it from others: a client's calls are made with it as `conversation`. By default a new one.
        messages: what was said before.
        options: what each call gets unless it is told otherwise (`model`, `max_tokens`, ...). `system`, the instructions
            before the conversation, is saved with it.

    Raises:
        InvalidRequestError: a value is of another type.
    """

    def __init__(
        self,
        client: Asker,
        *,
        id: str | None = None,  # noqa: A002  (it is the conversation's, in the log as well)
        messages: Sequence[Message] = (),
        **options: Unpack[Options],
    ) -> None:
        check_asker(client, "a conversation")
        self._client = client
        if id is not None and not (isinstance(id, str) and id):
            msg = f"a conversation's id is a non-empty str, not {id!r}"
            raise InvalidRequestError(msg)
        system = options.get("system")
        if system is not None and not isinstance(system, str):
            msg = f"a conversation's system text is a str, not {type(system).__name__}"
            raise InvalidRequestError(msg)
        self._id = id or new_id()
        self._options = options
        self._messages: tuple[Message, ...] = ()
        self._is_asking = False
        self.append(*messages)

    def __repr__(self) -> str:
        return f"<Conversation {self._id} of {len(self._messages)} messages>"

    @property
    def id(self) -> str:
        """What tells it from others."""
        return self._id

    @property
    def system(self) -> str | None:
        """The instructions before the conversation."""
        return self._options.get("system")

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said so far."""
        return self._messages

    def append(self, *messages: Message) -> None:
        """Add what was said elsewhere (the results of tools, say); nobody is asked.

        Raises:
            InvalidRequestError: one is no `Message`, or an answer is being waited for.
        """
        for message in messages:
            if not isinstance(message, Message):
                msg = (
                    f"a conversation is made of Message, not of {type(message).__name__}: Message('user', 'Hello'), say"
                )
                raise InvalidRequestError(msg)
        with self._asking(self._messages):
            self._messages += messages

    async def send(self, prompt: Prompt | None = None, **options: Unpack[Options]) -> ModelResponse:
        """Ask, and return the whole answer; prompt and answer are then part of the conversation.

        Args:
            prompt: a `str`, or one or several `Message`; None asks with what was appended.
            options: for this call, before those of the conversation; None takes one of these away.

        Raises:
            InvalidRequestError: the prompt or an option is wrong, or another prompt waits for its answer.
            VeyraError: as `generate` of who is asked.
        """
        asked = self._asked(prompt)
        with self._asking(self._messages):
            response = await self._client.generate(asked, **self._merged(options))
            self._keep(asked, response)
        return response

    def stream(self, prompt: Prompt | None = None, **options: Unpack[Options]) -> Reply:
        """Ask, and read the answer as it comes; arguments and errors as of `send`.

        Prompt and answer are part of the conversation when `Finish` is handed out.
        """
        asked = self._asked(prompt)
        reply = self._client.stream(asked, **self._merged(options))
        return Reply(_Turn(reply, partial(self._asking, self._messages), partial(self._keep, asked)))

    # -------------------------------------------------------------------------------------------- on disk

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write id, system text and messages to a file, in one step and durably; mode 0600. Options are not written.

        What the provider needs to see again (`Message.native`, `Opaque`) is kept byte for byte, media as base64.

        Raises:
            InvalidRequestError: it cannot be written, or holds what has no JSON form.
        """
        conversation_file.write(path, Saved(self._id, self.system, self._messages))

    @classmethod
    def load(cls, path: str | os.PathLike[str], client: Asker, **options: Unpack[Options]) -> Self:
        """Return the conversation in a file that `save` wrote, to be gone on with.

        Args:
            path: the file.
            client, options: as for a new one; `system` goes before what was saved.

        Raises:
            InvalidRequestError: the file cannot be read, or is not what `save` writes; the message says where.
        """
        saved = conversation_file.read(path)
        if saved.system is not None:
            options.setdefault("system", saved.system)
        return cls(client, id=saved.id, messages=saved.messages, **options)

    # ----------------------------------------------------------------------------------------- asking

    def _asked(self, prompt: Prompt | None) -> tuple[Message, ...]:
        """Return what is asked: everything said so far, and the prompt."""
        return self._messages if prompt is None else (*self._messages, *messages_of(prompt))

    def _merged(self, options: Options) -> Any:  # noqa: ANN401  (options of the one that is asked)
        merged: dict[str, object] = {**self._options, **options}
        if isinstance(self._client, Client):
            merged.setdefault("conversation", self._id)
        return merged

    @contextmanager
    def _asking(self, since: tuple[Message, ...]) -> Iterator[None]:
        """Hold the conversation for one prompt, made when these messages were all that had been said."""
        if self._is_asking or self._messages is not since:
            msg = "the conversation has gone on since this prompt was made, or waits for an answer: one at a time"
            raise InvalidRequestError(msg)
        self._is_asking = True
        try:
            yield
        finally:
            self._is_asking = False

    def _keep(self, asked: tuple[Message, ...], response: ModelResponse) -> None:
        self._messages = continued(asked, response)


class _Turn:
    """A turn that is being read: what the `Reply` of a conversation reads.

    Args:
        reply: the answer.
        asking: holds the conversation while the answer is being read.
        keep: keeps the turn.
    """

    def __init__(
        self,
        reply: Reply,
        asking: Callable[[], AbstractContextManager[None]],
        keep: Callable[[ModelResponse], None],
    ) -> None:
        self._reply = reply
        self._asking = asking
        self._keep = keep
        self.response: ModelResponse | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the answer's events; `Finish` when the turn is kept."""
        finish: Event | None = None
        with self._asking():
            async with self._reply as reply:
                async for event in reply:
                    if isinstance(event, Finish):
                        finish = event
                    else:
                        yield event
            response = reply.response
            self._keep(response)
        self.response = response
        if finish is not None:
            yield finish

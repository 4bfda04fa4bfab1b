"""A provider's stream: server-sent events, framed as WHATWG defines them, and decoded cheaply.

The SDKs' own stream iterators build pydantic models, at a hundred times the cost of the msgspec structs that a
``StreamDecoder`` uses. Nothing else costs as much per chunk.

Providers differ in what they send, and no difference may cost an answer. Three rules follow:

- What can be read is yielded before the error of what can't be read is raised. How the bytes were cut into reads makes
  no difference.
- An event that is not a JSON object is a keep-alive. One that begins like an object and can't be read could have been
  text, so it is a failure.
- A field that BAiO does not need is not judged.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import aiohttp
import msgspec

from baio_adapters.llm.http import ByteReader
from baio_adapters.llm.inline_thinking import InlineThinking
from baio_adapters.llm.refusals import unreadable
from baio_domain.entities import Usage
from baio_domain.errors import BaioError, ProviderBroken
from baio_domain.ports import Called, Finished, Thinking, openai_finish_reason

MAX_EVENT_BYTES = 1024 * 1024
"""The longest event of a stream, in bytes; a longer one is a provider's fault."""

USAGE_TIMEOUT_SECONDS = 5.0
"""How long to wait for the token counts after a finish reason that is certain."""

END_OF_BODY_TIMEOUT_SECONDS = 0.1
"""How long to wait for the end of the response after the stream's last event."""

READ_ERRORS = (aiohttp.ClientError, OSError)
"""What reading a response can raise."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NO_REASON = frozenset({"", "null", "none"})


# -- Framing -----------------------------------------------------------------------------------------------------------


class EventParser:
    """Cuts a stream into the data of its events.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Names and ids of
    events are ignored, because both protocols repeat in the data what they need. Only the end differs: an unfinished
    last event is given out, for it could be text.
    """

    __slots__ = ("_after_cr", "_at_start", "_data", "_line", "_size")

    def __init__(self) -> None:
        self._line = bytearray()  # the beginning of a line whose end has not arrived
        self._data: list[bytes] = []  # of the event whose end has not arrived
        self._size = 0
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes, take: Callable[[bytes], object]) -> None:
        """Give ``take`` the data of each event that these bytes complete. Raises ProviderBroken if one is too long."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_line_feeds(chunk)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        if lines and self._at_start:
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        for line in lines:
            if line:
                self._read_line(line)
            elif self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                self._data.clear()
                self._size = 0
                take(data)
        if rest:
            self._line += rest
            if self._size + len(self._line) > MAX_EVENT_BYTES:
                raise _too_long()

    def end(self, take: Callable[[bytes], object]) -> None:
        """Give ``take`` the data of the last event if the stream ended within it."""
        self.feed(b"\n\n", take)

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")  # CRLF, cut in the middle
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read_line(self, line: bytes) -> None:
        size = self._size + len(line)
        if size > MAX_EVENT_BYTES:
            raise _too_long()
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif line == b"data":
            self._data.append(b"")
        else:
            return
        self._size = size + 1  # a line that is empty takes memory, too


def _too_long() -> ProviderBroken:
    return ProviderBroken("The provider sent an event that is too long.")


# -- Decoding ----------------------------------------------------------------------------------------------------------


class UnreadableEventError(Exception):
    """An event that begins like a JSON object and can't be read: it could have been text."""


class StreamDecoder(ABC):
    """Decodes the events of one stream, and keeps everything in them except the text.

    A subclass knows what an event means in its protocol.
    """

    __slots__ = (
        "_high_surrogate", "_inline", "_items", "_may_have_surrogates", "_text", "_withdrawn", "begun", "done",
        "finish_deadline", "finish_is_certain", "finish_reason", "model", "usage",
    )  # fmt: skip

    def __init__(self) -> None:
        self.begun = False  # whether there was text or thinking before this event
        self.finish_reason: str | None = None
        self.finish_is_certain = False
        self.finish_deadline: float | None = None
        self.done = False
        self.model: str | None = None
        self.usage: Usage | None = None
        self._text = ""
        self._items: list[str | Thinking] = []  # before the text
        self._withdrawn = False
        self._inline: InlineThinking | None = InlineThinking()  # None when the rest is text
        self._may_have_surrogates = False
        self._high_surrogate = ""  # of a character whose low surrogate comes with the next text

    @abstractmethod
    def decode_object(self, data: bytes) -> None:
        """Note what an event says that is an object: its text, and everything else.

        Raises the domain's error for an error event, after noting the rest of it, and UnreadableEventError.
        """

    def decode(self, data: bytes) -> None:
        """Note what an event says; nothing follows the last one. Raises the domain's error for a failure."""
        if self.done:
            return
        try:
            if data.startswith(b"{"):
                self.decode_object(data)
            else:
                self._decode_other(data)
        except (UnreadableEventError, RecursionError) as error:
            if b"\n" not in data:
                # Its context is the error of the cheap decoding, which names the field.
                cause = error.__context__ if isinstance(error.__context__, Exception) else error
                raise unreadable(cause, "The provider sent an event that is not valid.") from None
            for line in data.split(b"\n"):  # some servers leave out the blank line between events
                self.decode(line)
        if self._text or self._items:
            self.begun = True

    def take(self) -> list[str | Thinking]:
        """The text of the events since the last call, joined, and the thinking between it."""
        items = self._items
        if items:
            self._items = []
            if self._text:
                items.append(self._text)
        elif self._text:
            items = [self._text]
        self._text = ""
        return items

    def note_text(self, text: str) -> None:
        """Note text, which is not empty. It says that the answer goes on."""
        if self.finish_reason is not None:
            self._withdraw_finish()
        if self._may_have_surrogates:
            text = self._join_surrogates(text)
        if self._inline is None:
            self._text += text
        else:
            self._note_beginning(*self._inline.split(text))

    def note_thinking(self, text: str) -> None:
        """Note that the model works on what is not text. It says that the answer goes on."""
        if self.finish_reason is not None:
            self._withdraw_finish()
        if self._inline is not None:
            self._inline.thought_elsewhere()
        self._add_thinking(text)

    def note_finish(self, reason: object) -> None:
        """Note a finish reason. It holds until more text arrives: some servers send "stop" with every piece of text.

        It is certain if there was text before this event, and no earlier reason was withdrawn.
        """
        if isinstance(reason, str) and reason.strip().lower() not in _NO_REASON:
            self.finish_reason = openai_finish_reason(reason)
            self.finish_is_certain = self.begun and not self._withdrawn

    def counted(self) -> Usage | None:
        """The token counts, None where they can't be true: some servers send zeros instead of none."""
        usage = self.usage
        possible = usage is not None and usage.prompt_tokens and (usage.completion_tokens or not self.begun)
        return usage if possible else None

    def ending(self) -> list[Called | Finished]:
        """What follows the text of a stream that has ended: how it finished, if it has."""
        return [] if self.finish_reason is None else [Finished(self.finish_reason, self.model, self.counted())]

    def release(self) -> None:
        """Note the text that was held back in case that it is a tag of thinking: the stream has ended."""
        if self._inline is not None:
            self._note_beginning(*self._inline.rest())

    def note_end(self) -> None:
        """Note that this was the last event."""
        self.release()
        self.done = True
        self.finish_is_certain = True
        self.finish_deadline = None

    def parse_object(self, data: bytes) -> dict[str, Any]:
        """Parse an event that is not as expected: with lone surrogates, say, or with fields of other types."""
        self._may_have_surrogates = True
        try:
            found = json.loads(data.decode(errors="replace"), parse_int=_parse_int)
        except (ValueError, RecursionError):
            raise UnreadableEventError from None
        return dict(found)

    def _note_beginning(self, thinking: str, text: str) -> None:
        if thinking.strip():
            self._add_thinking(thinking)
        self._text += text
        if self._inline is not None and self._inline.over:
            self._inline = None

    def _add_thinking(self, text: str) -> None:
        if self._text:
            self._items.append(self._text)
            self._text = ""
        self._items.append(Thinking(text))

    def _withdraw_finish(self) -> None:
        self.finish_reason = self.finish_deadline = None
        self.finish_is_certain = False
        self._withdrawn = True

    def _decode_other(self, data: bytes) -> None:
        """Decode what does not begin like an object: the end, an error in a list, or a keep-alive."""
        data = data.strip()
        if data.startswith(b"{"):
            self.decode_object(data)
            return
        if data.strip(b"\"'") == b"[DONE]":
            self.note_end()
            return
        try:
            found = json.loads(data.decode())
        except UnicodeDecodeError:
            raise ProviderBroken("The provider sent an event that is not text.") from None
        except (ValueError, RecursionError):
            return
        for item in found if isinstance(found, list) else ():
            if isinstance(item, dict) and item.get("error"):
                self.decode_object(json.dumps(item).encode())

    def _join_surrogates(self, text: str) -> str:
        # Some servers split a character beyond U+FFFF over two events.
        text = self._high_surrogate + text
        self._high_surrogate = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        self._may_have_surrogates = bool(self._high_surrogate)
        text = text.removesuffix(self._high_surrogate) if self._high_surrogate else text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _parse_int(digits: str) -> int | None:
    return int(digits) if len(digits) < 20 else None  # a longer one counts nothing, and would take long to read


def text_of(content: object) -> str:
    """The text of a field that is a string, a list of parts, or missing.

    Parts of other kinds, such as images and thinking, have no text. Raises UnreadableEventError for anything else.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of_part(part) for part in content)
    if content:
        raise UnreadableEventError
    return ""


def _text_of_part(part: object) -> str:
    text = part
    if isinstance(part, dict):
        text = part.get("text") if part.get("type", "text") in ("text", "output_text") else ""
    if isinstance(text, str):
        return text
    if text:
        raise UnreadableEventError
    return ""


Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A number of tokens; no provider counts more than JSON's numbers hold exactly."""


def count_of(value: object) -> int | None:
    """A number of tokens, which some servers send as a float or as a string; None if it can't be one."""
    try:
        found = -1 if isinstance(value, bool) else int(float(str(value)))
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found <= 2**53 else None


# -- Reading -----------------------------------------------------------------------------------------------------------


class EventStream:
    """Reads a stream of events to its end, and decodes it."""

    __slots__ = ("_decoder", "_ended", "_ending", "_failure", "_parser", "_reader")

    def __init__(self, reader: ByteReader, decoder: StreamDecoder) -> None:
        self._reader = reader
        self._decoder = decoder
        self._parser = EventParser()
        self._ended = False
        self._failure: Exception | None = None
        self._ending: list[Called | Finished] = []

    async def read(self) -> Sequence[str | Thinking | Called | Finished]:
        """Wait for what the stream says next, its text joined for each read, and at last its ending; then empty.

        Raises one of ``READ_ERRORS`` if the connection broke, or the domain's error, after all that had arrived.
        """
        while not self._ended:
            try:
                certain = self._decoder.finish_is_certain
                chunk = await (self._read_rest() if certain else self._reader.readany())
            except READ_ERRORS as error:
                # The reader raises before it gives out what arrived together with the failure.
                self._decode(self._reader._read_nowait(-1))  # noqa: SLF001
                self._end(error)
            else:
                self._decode(chunk) if chunk else self._end(None)
            if items := self._decoder.take():
                return items
        if self._failure is not None:
            raise self._failure
        ending, self._ending = self._ending, []
        return ending

    def _decode(self, chunk: bytes) -> None:
        if self._decoder.done:
            return
        try:
            self._parser.feed(chunk, self._decoder.decode)
        except BaioError as error:
            if not self._decoder.done:  # what follows the last event is not judged
                self._failure, self._ended = error, True
                self._decoder.release()

    def _end(self, broken: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            if not self._decoder.done:
                self._parser.end(self._decoder.decode)
        except ProviderBroken as error:
            broken = broken or error
        except BaioError as error:
            self._failure = error
            return
        finally:
            self._decoder.release()
        self._failure = None if self._decoder.finish_is_certain else broken
        if self._failure is None:
            self._ending = self._decoder.ending()

    async def _read_rest(self) -> bytes:
        """Read what follows a finish reason: the token counts, and the end, which frees the connection.

        Neither is worth a long wait.
        """
        decoder = self._decoder
        if decoder.finish_deadline is None:
            patience = END_OF_BODY_TIMEOUT_SECONDS if decoder.done else USAGE_TIMEOUT_SECONDS
            decoder.finish_deadline = asyncio.get_running_loop().time() + patience
        try:
            async with asyncio.timeout_at(decoder.finish_deadline):
                return await self._reader.readany()
        except TimeoutError:
            return b""

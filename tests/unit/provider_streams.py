"""A provider whose bytes a test decides: how they are cut into reads, and how the connection ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, final

from aiohttp import ClientPayloadError, StreamReader
from aiohttp.base_protocol import BaseProtocol

from baio_adapters.llm.anthropic import _EventDecoder
from baio_adapters.llm.event_stream import READ_ERRORS, EventStream, StreamDecoder
from baio_adapters.llm.openai import _ChunkDecoder
from baio_adapters.llm.refusals import translate_error
from baio_domain.answering import AnswerLimits
from baio_domain.entities import Answer, AnswerState, Model
from baio_domain.errors import BaioError
from baio_domain.ports import GatewayStream, LLMGateway, Thinking
from baio_domain.prompts import Turn
from tests.unit.world import OPENAI, QUESTION, BAiO

Protocol = Literal["openai", "anthropic"]
Ending = Literal["closed", "reset", "silent"]

DECODERS: dict[Protocol, type[StreamDecoder]] = {"openai": _ChunkDecoder, "anthropic": _EventDecoder}

WHOLE: dict[Protocol, bytes] = {
    "openai": b'data: {"choices":[{"index":0,"delta":{"content":"Yes."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    "anthropic": b'data: {"type":"content_block_delta","delta":{"text":"Yes."}}\n\n'
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
}
"""A whole answer in each protocol."""


@final
class ByteGateway(LLMGateway):
    """Decodes these bytes, each piece in a read of its own."""

    provider = OPENAI

    def __init__(self, protocol: Protocol, pieces: Sequence[bytes], ending: Ending, pause: float = 0.0) -> None:
        self.protocol = protocol
        self.pieces = pieces
        self.ending = ending
        self.pause = pause

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> GatewayStream:
        """Decode the bytes as the gateways do."""
        del key, model, prompt
        loop = asyncio.get_running_loop()
        connection = BaseProtocol(loop)
        connection.connection_made(asyncio.Transport())
        reader = StreamReader(connection, 2**16, loop=loop)
        feeding = asyncio.create_task(self._feed(reader))
        try:
            events = EventStream(reader, DECODERS[self.protocol]())
            while items := await events.read():
                for item in items:
                    yield item
        except READ_ERRORS as error:
            raise translate_error(error, "Lab") from None
        finally:
            feeding.cancel()

    async def _feed(self, reader: StreamReader) -> None:
        for number, piece in enumerate(self.pieces):
            if number:
                await asyncio.sleep(self.pause)
                while reader._buffer:  # noqa: ASYNC110 - aiohttp does not tell when it is empty
                    await asyncio.sleep(0.001)
            reader.feed_data(piece)
        # The end may overtake the last piece, as on a socket.
        if self.ending == "reset":
            reader.set_exception(ClientPayloadError("reset"))
        elif self.ending == "closed":
            reader.feed_eof()

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Result:
    """What a client saw, and what is stored."""

    shown: str
    thinking: str
    error: str | None
    record: Answer
    stored: str

    @property
    def outcome(self) -> tuple[object, ...]:
        """What must not depend on how the bytes were cut: everything except times."""
        record = self.record
        usage = record.prompt_tokens, record.completion_tokens, record.thinking_tokens
        end = record.state, record.finish_reason, record.reason, record.model
        return self.shown, self.thinking, self.error, self.stored, end, usage


@asynccontextmanager
async def asking(gateway: ByteGateway, limits: AnswerLimits | None = None) -> AsyncIterator[BAiO]:
    """A BAiO whose provider sends these bytes."""
    baio = BAiO(limits=limits)
    baio.gateways["OpenAI"] = gateway
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(drain_seconds=0):
        yield baio


async def play(protocol: Protocol, pieces: Sequence[bytes], ending: Ending = "closed", *, pause: float = 0.0) -> Result:
    """Ask a question, let the provider send these bytes, and ask another question."""
    gateway = ByteGateway(protocol, pieces, ending, pause)
    async with asking(gateway) as baio:
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        answer = await baio.ask(caller, conversation)
        shown, thinking, error = "", "", None
        try:
            async for item in answer.follow_events():
                if isinstance(item, Thinking):
                    thinking += item.text
                elif isinstance(item, str):
                    shown += item
        except BaioError as refusal:
            error = refusal.slug
        record = await baio.newest(caller, conversation)
        assert record.state is not AnswerState.RUNNING
        messages = await baio.messages(caller, conversation)
        stored = messages[1][1] if len(messages) > 1 else ""
        gateway.pieces, gateway.ending = [WHOLE[protocol]], "closed"
        again = await baio.ask(caller, conversation)
        assert "".join([text async for text in again.follow()]) == "Yes."
        assert (await baio.messages(caller, conversation))[-2:] == [("user", QUESTION), ("baio", "Yes.")]
        return Result(shown, thinking, error, record, stored)

"""The shouting gateway keeps the contract of every gateway."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from shouting import gateway

from baio_domain.ports import GatewayOptions, LLMGateway
from baio_domain.testing import Bench, GatewayContract

REFUSALS = {
    "key": "unknown key",
    "model": "unknown model",
    "too long": "too long",
    "prompt": "not that",
    "rate": "too often",
    "broken": "out of order",
    "slow": "too busy",
}


class ShoutingBench(Bench):
    """The gateway, and its server: it sends ``lines`` and ends, or waits until it is left where they say so."""

    gateway: LLMGateway

    def __init__(self) -> None:
        self.questions: list[tuple[str, str, list[str]]] = []
        self.lines: list[tuple[str, object]] = []
        self.left = asyncio.Event()

    @property
    def asked(self) -> list[tuple[str, str, list[str]]]:
        return self.questions

    def answer(self, *texts: str) -> None:
        self.lines = [*(("say", text) for text in texts), ("end", (11, 7))]

    def hang_after(self, *texts: str) -> None:
        self.lines = [*(("say", text) for text in texts), ("wait", None)]

    def stop_after(self, *texts: str) -> None:
        self.lines = [("say", text) for text in texts]

    def fail_after(self, failure: str, *texts: str) -> bool:
        self.lines = [*(("say", text) for text in texts), ("refuse", REFUSALS[failure])]
        return True

    async def closed(self) -> bool:
        return await asyncio.wait_for(self.left.wait(), 1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key, model, texts = json.loads(await reader.readline())
        self.questions.append((key, model, texts))
        for verb, about in self.lines:
            if verb == "wait":
                await reader.read()
                self.left.set()
            else:
                writer.write(json.dumps([verb, about]).encode() + b"\n")
                await writer.drain()
        writer.close()


class TestShoutingGateway(GatewayContract):
    @pytest.fixture
    async def bench(self) -> AsyncIterator[Bench]:
        made = ShoutingBench()
        async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            made.gateway = gateway(GatewayOptions(base_url=f"tcp://127.0.0.1:{port}"))
            yield made

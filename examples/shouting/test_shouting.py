"""The shouting gateway fulfils the contract of all gateways."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from shouting import gateway

from baio_domain.ports import GatewayOptions, LLMGateway
from baio_domain.testing import Bench, GatewayContract

ERRORS = {
    "key": "unknown key",
    "model": "unknown model",
    "too long": "prompt too long",
    "prompt": "prompt refused",
    "rate": "rate limited",
    "broken": "out of order",
    "slow": "timed out",
}


class ShoutingBench(Bench):
    """The gateway and its server, which sends ``lines``; at "wait" it waits until the client disconnects."""

    gateway: LLMGateway

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, list[str]]] = []
        self.lines: list[tuple[str, object]] = []
        self.disconnected = asyncio.Event()

    @property
    def asked(self) -> list[tuple[str, str, list[str]]]:
        return self.requests

    def answer(self, *texts: str) -> None:
        self.lines = [*(("text", text) for text in texts), ("end", (11, 7))]

    def hang_after(self, *texts: str) -> None:
        self.lines = [*(("text", text) for text in texts), ("wait", None)]

    def stop_after(self, *texts: str) -> None:
        self.lines = [("text", text) for text in texts]

    def fail_after(self, failure: str, *texts: str) -> bool:
        self.lines = [*(("text", text) for text in texts), ("error", ERRORS[failure])]
        return True

    async def closed(self) -> bool:
        return await asyncio.wait_for(self.disconnected.wait(), 1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key, model, texts = json.loads(await reader.readline())
        self.requests.append((key, model, texts))
        for kind, value in self.lines:
            if kind == "wait":
                await reader.read()
                self.disconnected.set()
            else:
                writer.write(json.dumps([kind, value]).encode() + b"\n")
                await writer.drain()
        writer.close()


class TestShoutingGateway(GatewayContract):
    @pytest.fixture
    async def bench(self) -> AsyncIterator[Bench]:
        shouting = ShoutingBench()
        async with await asyncio.start_server(shouting.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            shouting.gateway = gateway(GatewayOptions(base_url=f"tcp://127.0.0.1:{port}"))
            yield shouting

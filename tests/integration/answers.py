"""What tests of answers do again and again: ask, look at what became of it, and let a provider answer at a pace."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from tests.integration.scripted_provider import Behaviour, Exchange, answer
from tests.integration.servers import User, Wire, eventually

ORDINARY = answer("A codon is ", "three nucleotides", ".")


def records(user: User, conversation_id: int) -> list[dict[str, Any]]:
    """The conversation's answers, oldest first."""
    found = user.http.get("/chat/getAnswers/", params={"conversation_id": conversation_id})
    assert found.status_code == 200, found.text
    listed: list[dict[str, Any]] = found.json()
    return listed


def last(user: User, conversation_id: int) -> dict[str, Any]:
    """The newest answer's record."""
    return records(user, conversation_id)[-1]


def ended(user: User, conversation_id: int, seconds: float = 60.0) -> dict[str, Any]:
    """The newest answer's record once it has ended."""
    assert eventually(lambda: last(user, conversation_id)["state"] != "running", seconds)
    return last(user, conversation_id)


def said(user: User, conversation_id: int) -> list[tuple[str, str]]:
    """What was said, except the system message."""
    return user.messages(conversation_id)[1:]


def stop(user: User, conversation_id: int) -> httpx2.Response:
    """Stop what runs in the conversation."""
    return user.http.post("/chat/stopAnswer/", json={"conversation_id": conversation_id})


def paced(*texts: str, delay: float, first: float = 0.0, finish: str = "stop") -> Behaviour:
    """Send these texts at this pace, the first after a while; for many clients at once, which may leave."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for number, text in enumerate(texts):
            await asyncio.sleep(delay if number else first)
            if exchange.reader.at_eof():
                exchange.stays_open = False
                return
            await exchange.text(text)
        await exchange.finish(finish)

    return behave


def by_question(behaviours: Mapping[str, Behaviour]) -> Behaviour:
    """Behave as the last question asks for."""

    async def behave(exchange: Exchange) -> None:
        await behaviours.get(exchange.request.body["messages"][-1]["content"], ORDINARY)(exchange)

    return behave


def send(user: User, conversation_id: int, content: str = "What is a codon?", **headers: str) -> Wire:
    """Ask on a socket of its own, and read nothing yet."""
    return user.wire("/chat/sendMessage/", user.question(conversation_id, content), **headers)

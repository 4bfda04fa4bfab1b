"""BAiO's server with one part replaced, to measure what that part costs.

- ``sdk``: the gateway uses OpenAI's SDK in the usual way: its default HTTP client, and ``async for`` over its stream.
- ``raw``: the server has additional endpoints under ``/raw/``, which do the same reads with the database driver only:
  the same server, framework, token check and log, the same SQL in a worker thread, the same JSON.
"""

import asyncio
import socket
import sqlite3
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, final

import openai
import psycopg
import uvicorn
from litestar import Litestar, Request, get
from litestar.enums import ScopeType
from litestar.types import ASGIApp, BeforeRequestHookHandler, Receive, Scope, Send

from baio_adapters.llm.openai import OPENAI
from baio_api.app import create_app
from baio_api.auth import bearer_guard
from baio_api.container import Container
from baio_api.logs import configure_logging
from baio_api.middleware import RequestLogMiddleware, SecurityHeadersMiddleware
from baio_api.settings import Settings
from baio_domain.entities import Caller, Model
from baio_domain.ports import Finished, LLMGateway
from baio_domain.prompts import Turn
from benchmarks.process import print_json


@final
class SdkGateway(LLMGateway):
    """Streams as the SDK's documentation shows."""

    provider = OPENAI

    def __init__(self, base_url: str) -> None:
        self._client = openai.AsyncOpenAI(api_key="per call", base_url=base_url, max_retries=0)

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Request a completion and iterate over its chunks."""
        messages: Any = [{"role": turn.role, "content": turn.content} for turn in prompt]
        client = self._client.with_options(api_key=key)
        chunks = await client.chat.completions.create(model=model.identifier, messages=messages, stream=True)
        async for chunk in chunks:
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content
                if choice.finish_reason:
                    yield Finished(choice.finish_reason)
                    return

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._client.close()


class RawDatabase:
    """The database driver only: a connection for each worker thread, a transaction for each read."""

    def __init__(self, url: str) -> None:
        self._sqlite = url.removeprefix("sqlite:///") if url.startswith("sqlite") else None
        self._postgresql = url.replace("postgresql+psycopg://", "postgresql://")
        self._threads = ThreadPoolExecutor(4 if self._sqlite else 8)
        self._thread_local = threading.local()

    async def read(self, work: Callable[["Rows", int], Any], user_id: int) -> Any:  # noqa: ANN401 - JSON
        """Run ``work`` in a worker thread, in one transaction, after reading the account."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work, user_id)

    def _read(self, work: Callable[["Rows", int], Any], user_id: int) -> Any:  # noqa: ANN401 - JSON
        connection = getattr(self._thread_local, "connection", None) or self._connect()
        if isinstance(connection, sqlite3.Connection):
            connection.execute("BEGIN")
            rows: Rows = lambda sql, *values: connection.execute(sql, values).fetchall()  # noqa: E731
        else:
            rows = lambda sql, *values: connection.execute(sql.replace("?", "%s"), values).fetchall()  # noqa: E731
        rows("SELECT id FROM users WHERE id = ? AND disabled_at IS NULL", user_id)
        result = work(rows, user_id)
        connection.commit()
        return result

    def _connect(self) -> "sqlite3.Connection | psycopg.Connection":
        connection: sqlite3.Connection | psycopg.Connection
        if self._sqlite:
            connection = sqlite3.connect(self._sqlite, isolation_level=None)
        else:
            connection = psycopg.connect(self._postgresql, options="-c timezone=UTC")
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
        self._thread_local.connection = connection
        return connection


Rows = Callable[..., list[tuple[Any, ...]]]
"""Runs a statement with these values and returns all rows."""

_PROFILE = ("first_name", "last_name", "username", "email", "country", "affiliation", "position", "field_of_study")


def get_info(rows: Rows, user_id: int) -> Any:  # noqa: ANN401 - JSON
    sql = f"SELECT {', '.join(_PROFILE)} FROM users WHERE id = ?"
    return dict(zip(_PROFILE, rows(sql, user_id)[0], strict=True))


def get_conversations(rows: Rows, user_id: int) -> Any:  # noqa: ANN401 - JSON
    sql = "SELECT id, title, created_at FROM conversations WHERE user_id = ? ORDER BY created_at DESC, id DESC"
    found = rows(sql, user_id)
    return [{"id": row_id, "title": title, "created_at": _time(created)} for row_id, title, created in found]


def get_conversation(rows: Rows, user_id: int) -> Any:  # noqa: ANN401 - JSON
    sql = "SELECT id, title FROM conversations WHERE user_id = ? ORDER BY id LIMIT 1"
    row_id, title = rows(sql, user_id)[0]
    sql = (
        "SELECT role, content, created_at FROM messages WHERE conversation_id = ? AND EXISTS"
        " (SELECT * FROM conversations WHERE id = ? AND user_id = ?) ORDER BY messages.id"
    )
    messages = [
        {"role": role, "content": content, "created_at": _time(created)}
        for role, content, created in rows(sql, row_id, row_id, user_id)
    ]
    return {"id": row_id, "title": title, "messages": messages}


def get_api_keys(rows: Rows, user_id: int) -> Any:  # noqa: ANN401 - JSON
    keys = rows("SELECT nickname, provider_id, created_at FROM api_keys WHERE user_id = ? ORDER BY id", user_id)
    providers = {provider["id"]: provider for provider in get_llm_providers(rows, user_id)}
    return [
        {"nickname": nickname, "provider": providers[provider], "created_at": _time(created)}
        for nickname, provider, created in keys
    ]


def get_llm_providers(rows: Rows, _: int) -> Any:  # noqa: ANN401 - JSON
    sql = (
        "SELECT p.id, p.name, m.id, m.name FROM providers p"
        " LEFT JOIN models m ON m.provider_id = p.id AND NOT m.retired ORDER BY p.id, m.id"
    )
    found: dict[int, Any] = {}
    for row_id, name, model_id, model in rows(sql):
        provider = found.setdefault(row_id, {"id": row_id, "name": name, "models": []})
        provider["models"].append({"id": model_id, "name": model})
    return list(found.values())


def _time(stored: datetime | str) -> datetime | str:
    return stored.replace("+00:00", "Z") if isinstance(stored, str) else stored


RAW_READS = {
    "getInfo": get_info,
    "getConversations": get_conversations,
    "getConversation": get_conversation,
    "getApiKeys": get_api_keys,
    "getLLMProviders": get_llm_providers,
}


def raw_app(database: RawDatabase, bearer: BeforeRequestHookHandler) -> Litestar:
    """An application with the raw reads."""

    def route(name: str, work: Callable[[Rows, int], Any]) -> Any:  # noqa: ANN401 - a handler
        @get(f"/raw/{name}", before_request=bearer)
        async def read(request: Request[Caller, Any, Any]) -> Any:  # noqa: ANN401 - JSON
            return await database.read(work, request.user.user_id)

        return read

    routes = [route(name, work) for name, work in RAW_READS.items()]
    return Litestar(route_handlers=routes, openapi_config=None, logging_config=None)


def with_raw_reads(container: Container) -> ASGIApp:
    """BAiO with the raw reads under ``/raw/``."""
    settings: Settings = container.settings()
    baio = create_app(container)
    reads = raw_app(RawDatabase(settings.database), bearer_guard(container.tokens(), container.admit_token()))
    raw = SecurityHeadersMiddleware(RequestLogMiddleware(reads))

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        is_raw = scope["type"] == ScopeType.HTTP and scope["path"].startswith("/raw/")
        await (raw if is_raw else baio)(scope, receive, send)

    return either


def with_sdk(container: Container) -> ASGIApp:
    """BAiO with ``SdkGateway``."""
    settings: Settings = container.settings()
    container.gateways.override({"OpenAI": SdkGateway(settings.openai_base_url)})
    return create_app(container)


def main(kind: str) -> None:
    settings = Settings.from_environment()
    configure_logging(settings.log_level)
    container = Container(settings=settings)
    app = {"raw": with_raw_reads, "sdk": with_sdk}[kind](container)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print_json({"port": listening.getsockname()[1]})
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1])

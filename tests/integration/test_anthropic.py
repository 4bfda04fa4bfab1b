"""Anthropic's protocol against a provider on a real socket: requests, streams, refusals and faults."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from baio_adapters.llm import gateway_factory, installed_gateways
from baio_adapters.llm.anthropic import AnthropicGateway
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.errors import (
    BaioError,
    KeyRefused,
    ModelRefused,
    ParametersRefused,
    PromptRefused,
    PromptTooLong,
    ProviderBroken,
    ProviderRateLimited,
    ProviderTooSlow,
)
from baio_domain.ports import Extras, Finished, GatewayOptions
from baio_domain.prompts import Turn
from baio_domain.testing import KEY, PROMPT, PROVIDER_TEXT, check_nothing_leaks
from baio_domain.tools import ToolSpec
from tests.integration.scripted_provider import (
    Behaviour,
    Exchange,
    Request,
    ScriptedProvider,
    answer,
    block_start,
    block_stop,
    cut_after,
    endless_error,
    endless_line,
    error_event,
    events,
    framed,
    garbage,
    gzip_bomb,
    html,
    message_delta,
    message_start,
    models,
    raw,
    redirect,
    refuse,
    reset_after,
    text_delta,
    with_cookie,
)

pytestmark = pytest.mark.anyio

STOP = {"type": "message_stop"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def gateway(provider: ScriptedProvider) -> AsyncIterator[AnthropicGateway]:
    """The gateway, connected to the scripted provider."""
    made = AnthropicGateway(GatewayOptions(base_url=base_url(provider)))
    yield made
    await made.aclose()


def base_url(provider: ScriptedProvider) -> str:
    return provider.base_url.removesuffix("/v1")


async def ask(
    gateway: AnthropicGateway, prompt: Sequence[Turn] = PROMPT, key: str = KEY
) -> tuple[str, Finished | None]:
    """The complete text, and how it finished; None if it did not."""
    model = Model.of(1, 1, gateway.provider.models[0])
    text, finished = "", None
    async with aclosing(gateway.stream(key=key, model=model, prompt=prompt)) as stream:
        async for item in stream:
            assert finished is None
            if isinstance(item, Finished):
                finished = item
            elif isinstance(item, str):
                text += item
    return text, finished


async def refused(gateway: AnthropicGateway) -> BaioError:
    """The error that a request raises, which leaks nothing."""
    with pytest.raises(BaioError) as raised:
        await ask(gateway)
    check_nothing_leaks(raised.value)
    return raised.value


# -- Requests ----------------------------------------------------------------------------------------------------------


TOOL = ToolSpec("weather", "", "The weather.", "", {"type": "object", "properties": {}}, strict=True)
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("extras", "fields"),
    [
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "gene", "schema": SCHEMA}}},
            {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"tool_choice": {"type": "none"}}),
        ({"parallel_tool_calls": False}, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}, "parallel_tool_calls": True},
            {"tool_choice": {"type": "tool", "name": "weather"}},
        ),
    ],
)
async def test_what_openais_protocol_asks_for_is_said_in_anthropics(
    extras: Extras, fields: dict[str, object], gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    model = Model.of(1, 1, gateway.provider.models[0])
    effort = {"reasoning_effort": "low"}
    stream = gateway.stream(key=KEY, model=model, prompt=PROMPT, tools=[TOOL], parameters=effort, extras=extras)
    async with aclosing(stream):
        assert [item async for item in stream]
    usual = {"model", "max_tokens", "messages", "stream", "system", "tools", "output_config"}
    asked = provider.requests[0].body
    assert {name: asked[name] for name in fields} == fields
    assert set(asked) == usual | set(fields)
    assert asked["tools"][0]["strict"] is True


async def test_json_without_a_schema_is_refused_before_anything_is_sent(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    model = Model.of(1, 1, gateway.provider.models[0])
    stream = gateway.stream(key=KEY, model=model, prompt=PROMPT, extras={"response_format": {"type": "json_object"}})
    with pytest.raises(ParametersRefused) as raised:
        await anext(stream)
    assert raised.value.names == ["response_format"]
    assert len(provider.requests) == 0


async def test_a_request_has_the_users_key_the_models_longest_answer_and_a_separate_system_message(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    await ask(gateway)
    (asked,) = provider.requests
    assert asked.path == "/v1/messages"
    assert asked.headers["x-api-key"] == KEY
    assert asked.body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 128_000,
        "stream": True,
        "system": PROMPT[0].content,
        "messages": [{"role": turn.role, "content": turn.content} for turn in PROMPT[1:]],
    }


async def test_no_header_of_this_server_or_of_another_user_is_sent(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "AUTH_TOKEN", "CUSTOM_HEADERS", "PROFILE"):
        monkeypatch.setenv(f"ANTHROPIC_{name}", "x-secret: of-this-server")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    gateway = AnthropicGateway(GatewayOptions(base_url=base_url(provider)))
    provider.script(with_cookie(answer("One."), "user=first"))
    await ask(gateway)
    await ask(gateway)
    await gateway.aclose()
    needed = {"host", "accept", "accept-encoding", "content-type", "content-length", "user-agent"}
    for asked in provider.requests:
        assert set(asked.headers) == needed | {"x-api-key", "anthropic-version"}
        assert "of-this-server" not in str(asked.headers)


async def test_another_provider_with_this_protocol_has_its_own_models(provider: ScriptedProvider) -> None:
    elsewhere = ProviderSpec("Elsewhere", (ModelSpec("small-1", "Small One", 8_000, 1_000),))
    gateway = AnthropicGateway(GatewayOptions(base_url=base_url(provider), provider=elsewhere))
    await ask(gateway)
    await gateway.aclose()
    (asked,) = provider.requests
    assert (asked.body["model"], asked.body["max_tokens"]) == ("small-1", 1_000)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
async def test_the_base_url_may_end_in_the_version_or_not(provider: ScriptedProvider, end: str) -> None:
    gateway = AnthropicGateway(GatewayOptions(base_url=base_url(provider) + end))
    assert await ask(gateway)
    assert await gateway.check_key(key=KEY)
    await gateway.aclose()
    assert [path_and_query(asked)[0] for asked in provider.requests] == ["/v1/messages", "/v1/models"]


async def test_logs_of_all_levels_contain_neither_the_key_nor_the_prompt_nor_the_providers_words(
    provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    gateway = AnthropicGateway(GatewayOptions(base_url=base_url(provider)))
    await ask(gateway)
    provider.script(refuse(400, code="invalid_request_error"), reset_after())
    for _ in range(2):
        await refused(gateway)
    await gateway.aclose()
    assert [record.getMessage() for record in caplog.records if record.name == "baio.providers"] == [
        "provider refused",
        "provider broken",
    ]
    written = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    for secret in (KEY, PROMPT[0].content, "canary-of-the-prompt", PROVIDER_TEXT):
        assert secret not in written


def test_an_unknown_quirk_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown quirk 'no-stream-options'; available: none"):
        AnthropicGateway(GatewayOptions(quirks=frozenset({"no-stream-options"})))


# -- Streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "something_new"),
    ],
)
async def test_a_stop_reason_becomes_the_finish_reason_that_every_gateway_uses(
    gateway: AnthropicGateway, provider: ScriptedProvider, theirs: str, ours: str
) -> None:
    provider.script(answer("A codon.", finish=theirs))
    assert await ask(gateway) == ("A codon.", Finished(ours, "scripted-2024", Usage(11, 7)))


async def test_tokens_read_from_and_written_to_a_cache_count_as_prompt(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    start = message_start(cache_creation_input_tokens=200, cache_read_input_tokens=3_000)
    provider.script(events(start, block_start(), text_delta("Yes."), message_delta("end_turn"), STOP))
    _, finished = await ask(gateway)
    assert finished is not None
    assert finished.usage == Usage(3_211, 7, cached_tokens=3_000)


async def test_the_latest_token_counts_are_kept(gateway: AnthropicGateway, provider: ScriptedProvider) -> None:
    provider.script(events(message_start(), text_delta("Yes."), message_delta("end_turn", input_tokens=30), STOP))
    _, finished = await ask(gateway)
    assert finished is not None
    assert finished.usage == Usage(30, 7)


async def test_thinking_pings_comments_and_unknown_events_are_not_text(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    thinking = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}}
    signature = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "Eq"}}
    tool = {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{"}}
    stream = [
        message_start(), block_start(type="thinking", thinking="", signature=""), thinking, {"type": "ping"},
        signature, block_stop(), block_start(1, type="text", text="A "), text_delta("codon", 1), block_stop(1),
        block_start(2, type="tool_use", id="toolu_1", name="blast"), tool, block_stop(2),
        {"type": "weather", "delta": {"type": "rain", "drops": 7}}, block_start(3), text_delta(".", 3), block_stop(3),
        message_delta("end_turn"), STOP,
    ]  # fmt: skip
    provider.script(raw(b": a comment\n\n", *(framed(each) for each in stream)))
    text, finished = await ask(gateway)
    assert text == "A codon."
    assert finished is not None


async def test_a_character_may_be_split_over_reads_and_lines_may_end_in_crlf(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    whole = b"".join(framed(each) for each in (message_start(), text_delta("X"), message_delta("end_turn"), STOP))
    whole = whole.replace(b"\n", b"\r\n").replace(b'"X"', '"Adenin 🧬 grün"'.encode())
    provider.script(raw(*(bytes([byte]) for byte in whole)))
    assert (await ask(gateway))[0] == "Adenin 🧬 grün"


async def test_a_last_line_without_a_newline_counts(gateway: AnthropicGateway, provider: ScriptedProvider) -> None:
    provider.script(raw(framed(message_start()), framed(text_delta("A ")), framed(text_delta("codon")).rstrip()))
    assert await ask(gateway) == ("A codon", None)


async def test_an_answer_without_its_last_event_is_finished_by_its_stop_reason(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    provider.script(events(message_start(), text_delta("Yes."), message_delta("end_turn")))
    text, finished = await ask(gateway)
    assert (text, finished is not None) == ("Yes.", True)


async def test_a_finished_answer_does_not_wait_for_the_end_of_the_body(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    async def never_end(exchange: Exchange) -> None:
        await exchange.head()
        for event in (message_start(), text_delta("Yes."), message_delta("end_turn"), STOP):
            await exchange.event(event)
        await exchange.hang()

    provider.script(never_end)
    async with asyncio.timeout(4):
        _, finished = await ask(gateway)
    assert finished is not None


async def test_an_empty_answer_is_finished_without_text(gateway: AnthropicGateway, provider: ScriptedProvider) -> None:
    provider.script(answer(finish="refusal"))
    text, finished = await ask(gateway)
    assert (text, finished and finished.reason) == ("", "content_filter")


# -- Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (refuse(401, code="authentication_error"), KeyRefused),
        (refuse(403, code="permission_error"), KeyRefused),
        (refuse(402, code="billing_error"), KeyRefused),
        (refuse(400, code="invalid_request_error", says="Your credit balance is too low to access"), KeyRefused),
        (refuse(404, code="not_found_error"), ModelRefused),
        (refuse(413, code="request_too_large"), PromptTooLong),
        (refuse(413, page=True), PromptTooLong),
        (refuse(400, code="invalid_request_error", says="prompt is too long: 9 tokens > 8 maximum"), PromptTooLong),
        (
            refuse(400, code="invalid_request_error", says="input length and `max_tokens` exceed context limit: 9 > 8"),
            PromptTooLong,
        ),
        (refuse(400, code="invalid_request_error"), PromptRefused),
        (refuse(429, code="rate_limit_error"), ProviderRateLimited),
        (refuse(500, code="api_error"), ProviderBroken),
        (refuse(529, code="overloaded_error"), ProviderBroken),
        (refuse(529, page=True), ProviderBroken),
        (refuse(504, code="timeout_error"), ProviderTooSlow),
        (refuse(418, code="tea pot"), ProviderBroken),
        (endless_error(), ProviderBroken),
    ],
)
async def test_a_refusal_becomes_the_error_that_tells_the_user_what_to_do(
    gateway: AnthropicGateway, provider: ScriptedProvider, behaviour: Behaviour, kind: type[BaioError]
) -> None:
    provider.script(behaviour)
    assert type(await refused(gateway)) is kind
    assert len(provider.requests) == 1


async def test_a_rate_limit_says_when_to_retry(gateway: AnthropicGateway, provider: ScriptedProvider) -> None:
    provider.script(refuse(429, code="rate_limit_error", retry_after=7))
    assert (await refused(gateway)).retry_after == 7


async def test_a_code_overrides_a_type(gateway: AnthropicGateway, provider: ScriptedProvider) -> None:
    error = {"type": "rate_limit_error", "message": "", "details": {"error_code": "contract_spend_limit_reached"}}
    provider.script(events({"type": "error", "error": error}))
    assert "quota" in (await refused(gateway)).detail


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("overloaded_error", ProviderBroken),
        ("rate_limit_error", ProviderRateLimited),
        ("timeout_error", ProviderTooSlow),
    ],
)
@pytest.mark.parametrize("texts", [(), ("A codon ",)])
async def test_an_error_event_ends_the_answer_at_any_point(
    gateway: AnthropicGateway, provider: ScriptedProvider, code: str, kind: type[BaioError], texts: tuple[str, ...]
) -> None:
    provider.script(error_event(*texts, code=code))
    assert type(await refused(gateway)) is kind


async def test_a_user_who_is_rate_limited_slows_nobody_else_down(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    async def by_key(exchange: Exchange) -> None:
        limited = exchange.request.headers["x-api-key"] == "sk-limited"
        behave = refuse(429, code="rate_limit_error", retry_after=60) if limited else answer("Yes.")
        await behave(exchange)

    provider.always(by_key)
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(ProviderRateLimited):
            await ask(gateway, key="sk-limited")
        assert (await ask(gateway, key="sk-other"))[0] == "Yes."
    assert len(provider.requests) == 10
    assert time.monotonic() - began < 30  # a single wait as asked for would take longer


# -- Faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        reset_after(),
        reset_after("A codon "),
        cut_after("A codon "),
        garbage(),
        raw(b"data: {}\n\n"),
        raw(b'data: {"type": "content_block_delta", "delta": {"text": 7}}\n\n'),
        raw(framed(text_delta("A codon ")), b'event: content_block_delta\ndata: {"type": "content_b\n\n'),
        endless_line(),
        gzip_bomb(),
        redirect("http://127.0.0.1:9/elsewhere"),
    ],
    ids=[
        "reset", "reset later", "cut", "garbage", "no type", "wrong type", "half an event", "endless line",
        "compressed", "redirect",
    ],
)  # fmt: skip
async def test_a_provider_that_disconnects_or_sends_garbage_is_broken(
    gateway: AnthropicGateway, provider: ScriptedProvider, behaviour: Behaviour
) -> None:
    provider.script(behaviour)
    assert type(await refused(gateway)) is ProviderBroken
    assert (await ask(gateway))[0] == "A codon is three nucleotides."
    assert len(provider.requests) == 2


async def test_an_html_page_is_not_an_answer(gateway: AnthropicGateway, provider: ScriptedProvider) -> None:
    provider.script(html())
    assert await ask(gateway) == ("", None)


async def test_an_unreachable_provider_is_broken() -> None:
    gateway = AnthropicGateway(GatewayOptions(base_url="http://127.0.0.1:9"))
    assert type(await refused(gateway)) is ProviderBroken
    await gateway.aclose()


# -- Keys and models ---------------------------------------------------------------------------------------------------


async def test_models_are_listed_with_their_properties_except_retired_ones(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    provider.models = models("claude-next", display_name="Claude Next", max_input_tokens=2_000_000, max_tokens=64_000)
    listed = await gateway.list_models(key=KEY)
    assert listed == [ModelSpec("claude-next", "Claude Next", context_window=2_000_000, max_output_tokens=64_000)]
    provider.models = models("claude-1", lifecycle="retired")
    assert await gateway.list_models(key=KEY) == []
    assert [asked.headers["x-api-key"] for asked in provider.requests] == [KEY, KEY]
    assert [path_and_query(asked) for asked in provider.requests] == [("/v1/models", "limit=1000")] * 2


def path_and_query(asked: Request) -> tuple[str, str]:
    path, _, query = asked.path.partition("?")
    return path, query


async def test_missing_properties_of_a_model_are_guessed_conservatively(
    gateway: AnthropicGateway, provider: ScriptedProvider
) -> None:
    provider.models = models("mystery-1")
    assert await gateway.list_models(key=KEY) == [ModelSpec("mystery-1", "mystery-1", 8_192, 2_048)]


async def test_a_key_is_checked_by_listing_the_models(gateway: AnthropicGateway, provider: ScriptedProvider) -> None:
    assert await gateway.check_key(key=KEY)
    provider.models = refuse(401, code="authentication_error")
    with pytest.raises(KeyRefused) as raised:
        await gateway.check_key(key=KEY)
    check_nothing_leaks(raised.value)


@pytest.mark.parametrize("behaviour", [html(), garbage(), gzip_bomb(), reset_after(), refuse(529)])
async def test_an_unreadable_list_of_models_is_the_providers_failure(
    gateway: AnthropicGateway, provider: ScriptedProvider, behaviour: Behaviour
) -> None:
    provider.models = behaviour
    with pytest.raises(ProviderBroken) as raised:
        await gateway.list_models(key=KEY)
    check_nothing_leaks(raised.value)


# -- The extra ---------------------------------------------------------------------------------------------------------

WITHOUT_THE_EXTRA = """
import sys
sys.modules["anthropic"] = None
from baio_adapters.llm import gateway_factory, installed_gateways
print("anthropic" in installed_gateways(), "openai" in installed_gateways())
for name in ("anthropic", "nobodys"):
    try:
        gateway_factory(name)
    except LookupError as error:
        print(error)
"""


async def test_the_gateway_is_found_by_its_name() -> None:
    assert "anthropic" in installed_gateways()
    made = gateway_factory("anthropic")(GatewayOptions())
    assert made.provider.name == "Anthropic"
    await made.aclose()


def test_without_its_extra_the_gateway_is_left_out_and_one_line_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_EXTRA], capture_output=True, text=True, check=True)
    found, missing, unknown = done.stdout.splitlines()
    assert found == "False True"
    assert missing == "Anthropic needs an extra: pip install 'baio[anthropic]'"
    assert unknown.startswith("unknown gateway 'nobodys'; available: anthropic, ")

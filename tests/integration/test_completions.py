"""Chat completions, with OpenAI's own client and on the wire, from two workers on each database."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam
from pydantic import BaseModel
from sqlalchemy import update

from baio_adapters.sql.tables import api_keys
from tests.integration.answers import ended
from tests.integration.conftest import once
from tests.integration.scripted_provider import (
    ScriptedProvider,
    answer,
    call_tools,
    cut_after,
    gated,
    hang_after,
    refuse,
    silence,
    thoughtful,
    whole,
)
from tests.integration.servers import KEY, User, Wire, named, problem, until
from tests.integration.test_api_tokens import create

pytestmark = pytest.mark.two_workers

MODEL = "OpenAI Key/gpt-4o-mini"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is a codon?"}]
BODY: dict[str, Any] = {"model": MODEL, "messages": QUESTION}
PATH = "/v1/chat/completions"
TOOL: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(asker: User) -> Iterator[openai.OpenAI]:
    """OpenAI's client with an API token that may only ask."""
    token = create(asker, scopes=["ask"])
    with httpx2.Client(verify=False, trust_env=False, headers=asker.http.headers, timeout=60) as http:
        yield openai.OpenAI(base_url=f"{asker.server.address}/v1", api_key=token, max_retries=0, http_client=http)


def post(user: User, **changes: Any) -> httpx2.Response:
    """Ask, and read the whole response."""
    return user.http.post(PATH, json={**BODY, **changes})


def events(text: str) -> list[Any]:
    """The data of the events of a stream."""
    lines = [line for line in text.split("\n") if line]
    assert all(line.startswith(("data: ", ":")) for line in lines)
    data = [line.removeprefix("data: ") for line in lines if not line.startswith(":")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def stored(user: User) -> dict[str, int]:
    """How many rows there are, except what answers cost, and sessions' and tokens' own."""
    return {name: count for name, count in user.server.rows().items() if name != "usage"}


def tokens_used(user: User) -> list[tuple[int, int, int, bool]]:
    """What the ledger has counted: answers, tokens, and whether these are estimates."""
    rows = user.http.get("/chat/getUsage/").json()
    names = ("answers", "prompt_tokens", "completion_tokens", "estimated")
    return [tuple(row[name] for name in names) for row in rows]


# -- OpenAI's client ---------------------------------------------------------------------------------------------------


def test_the_client_lists_models_and_finds_each_by_its_name_with_slashes(client: openai.OpenAI, asker: User) -> None:
    asker.add_key("a lab/Bærum")
    names = [each.id for each in client.models.list()]
    assert names[:2] == ["OpenAI Key/gpt-4o", MODEL]
    assert "a lab/Bærum/gpt-4o" in names
    for name in (MODEL, "a lab/Bærum/gpt-4o"):
        found = client.models.retrieve(name)
        assert (found.id, found.owned_by, found.object) == (name, "OpenAI", "model")
    for path in ("OpenAI%20Key/gpt-4o-mini/", "OpenAI%20Key%2Fgpt-4o-mini", "OpenAI Key/GPT-4o mini"):
        assert asker.http.get(f"/v1/models/{path}").json()["id"] == MODEL
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("OpenAI Key/gpt-9")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_the_client_gets_a_whole_completion_and_a_stream_of_the_same(
    client: openai.OpenAI, asker: User, provider: ScriptedProvider
) -> None:
    before = stored(asker)
    completion = client.chat.completions.create(model=MODEL, messages=QUESTION)
    [choice] = completion.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "A codon is three nucleotides.")
    assert (choice.finish_reason, completion.model) == ("stop", MODEL)
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == (
        11, 7, 18,
    )  # fmt: skip
    assert completion._request_id
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, stream_options=options))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(each.choices[0].delta.content or "" for each in chunks[:-1]) == choice.message.content
    assert [each.choices[0].finish_reason for each in chunks[:-1]][-2:] == [None, "stop"]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], completion.usage)
    assert len({each.id for each in chunks}) == 1
    with client.chat.completions.stream(model=MODEL, messages=QUESTION) as stream:
        assert stream.until_done().get_final_completion().choices[0].message.content == choice.message.content
    assert [each.body["messages"] for each in provider.requests] == [QUESTION] * 3
    assert stored(asker) == before
    assert tokens_used(asker) == [(3, 33, 21, False)]


def test_the_client_runs_its_own_tools(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    calls = [("weather", '{"city": "Bergen"}'), ("weather", '{"city": "Oslo"}')]
    provider.script(call_tools(calls), call_tools(calls, "Let me look.", reason="stop"), answer("Rain."))
    called = client.chat.completions.create(model=MODEL, messages=QUESTION, tools=[TOOL]).choices[0]
    assert (called.message.content, called.finish_reason) == (None, "tool_calls")
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, tools=[TOOL]) as stream:
        [choice] = stream.until_done().get_final_completion().choices
    assert (choice.message.content, choice.finish_reason) == ("Let me look.", "tool_calls")
    for message in (called.message, choice.message):
        assert message.tool_calls is not None
        functions = [each.function for each in message.tool_calls if each.type == "function"]
        assert [(each.name, each.arguments) for each in functions] == calls
    assert choice.message.tool_calls is not None
    results: list[Any] = [
        {"role": "tool", "tool_call_id": each.id, "content": f"rain {place}"}
        for place, each in enumerate(choice.message.tool_calls)
    ][::-1]
    said: Any = choice.message
    last = client.chat.completions.create(model=MODEL, messages=[*QUESTION, said, *results], tools=[TOOL])
    assert last.choices[0].message.content == "Rain."
    assert provider.requests[0].body["tools"] == [TOOL]
    functions_sent = [{"name": name, "arguments": arguments} for name, arguments in calls]
    assert provider.requests[-1].body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": f"c0000000{place}", "type": "function", "function": each}
                for place, each in enumerate(functions_sent, 1)
            ],
        },
        {"role": "tool", "tool_call_id": "c00000001", "content": "rain 0"},
        {"role": "tool", "tool_call_id": "c00000002", "content": "rain 1"},
    ]


class Gene(BaseModel):
    """What is asked for."""

    name: str
    length: int


def test_the_client_parses_an_answer_that_has_a_schema(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.script(answer('{"name": "lacZ", ', '"length": 3075}'), answer('{"name": "lac', finish="length"))
    parsed = client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Gene)
    assert parsed.choices[0].message.parsed == Gene(name="lacZ", length=3075)
    sent = provider.requests[0].body["response_format"]
    assert (sent["type"], sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("json_schema", "Gene", True)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Gene)


def test_the_client_raises_what_went_wrong(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    def ask(**changes: Any) -> object:
        made: Any = {"model": MODEL, "messages": QUESTION, **changes}
        return client.chat.completions.create(**made)

    with pytest.raises(openai.BadRequestError) as bad:
        ask(n=2)
    assert (bad.value.param, bad.value.code, bad.value.type) == ("n", "invalid_input", "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as missing:
        ask(model="gpt-9")
    assert (missing.value.param, missing.value.code) == ("model", "model_not_found")
    assert len(provider.requests) == 0
    for stream in (False, True):
        provider.script(refuse(429, retry_after=7), refuse(401), refuse(400, code="context_length_exceeded"))
        with pytest.raises(openai.RateLimitError) as limited:
            ask(stream=stream)
        assert limited.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.APIStatusError) as refused:
            ask(stream=stream)
        assert (refused.value.status_code, refused.value.code) == (424, "key_refused")
        with pytest.raises(openai.BadRequestError) as long:
            ask(stream=stream)
        assert (long.value.code, long.value.param) == ("context_length_exceeded", "messages")
        assert "maximum context length" in long.value.message
        assert KEY[-8:] not in limited.value.response.text + refused.value.response.text
    assert len(provider.requests) == 6  # a prompt that is too long is not halved
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-other").models.list()
    with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
        client.responses.create(model=MODEL, input="x")


def test_a_stream_that_is_cut_is_an_error_to_the_client(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.script(cut_after("A codon"), cut_after("A codon"))
    texts = list[str | None]()
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError) as cut:
        texts.extend(chunk.choices[0].delta.content for chunk in stream)
    assert (texts, cut.value.code) == (["", "A codon"], "provider_broken")
    with pytest.raises(openai.InternalServerError) as broken:
        client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert (broken.value.status_code, broken.value.code) == (502, "provider_broken")


def test_the_client_sees_what_a_model_thinks(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.script(thoughtful(["Hmm. ", "So."], "Yes."), thoughtful(["Hmm."], "Yes."))
    message = client.chat.completions.create(model=MODEL, messages=QUESTION).choices[0].message
    assert (message.content, message.model_extra) == ("Yes.", {"reasoning_content": "Hmm. So."})
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    thoughts = [(each.choices[0].delta.model_extra or {}).get("reasoning_content") for each in stream]
    assert [each for each in thoughts if each] == ["Hmm."]


# -- A conversation of it ----------------------------------------------------------------------------------------------


def test_what_is_stored_is_a_conversation_as_any_other(
    client: openai.OpenAI, asker: User, provider: ScriptedProvider
) -> None:
    said: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is DNA?"},
        {"role": "assistant", "content": "A molecule."},
        *QUESTION,
    ]
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=said, store=True, temperature=0.5)
    assert raw.parse().choices[0].message.content == "A codon is three nucleotides."
    conversation = int(raw.headers["x-conversation-id"])
    assert [role for role, _ in asker.messages(conversation)] == ["system", "user", "baio", "user", "baio"]
    [record] = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    assert (record["id"], record["state"]) == (int(raw.headers["x-answer-id"]), "complete")
    settings = asker.http.get("/chat/getSettings/", params={"conversation_id": conversation}).json()
    assert settings == {
        "system": "Be brief.",
        "model": "gpt-4o-mini",
        "apikey_nickname": "OpenAI Key",
        "parameters": {"temperature": 0.5},
        "tools": None,
    }
    assert [each["content"] for each in provider.requests[0].body["messages"]] == [each["content"] for each in said]
    assert provider.requests[0].body["temperature"] == 0.5
    assert provider.requests[0].body["tools"]  # BAiO's own
    [listed] = asker.http.get("/chat/getConversations/").json()
    assert (listed["id"], listed["title"]) == (conversation, "What is DNA?")
    follow_up = {"conversation_id": conversation, "content": "And then?"}
    assert asker.http.post("/chat/sendMessage/", json=follow_up).status_code == 200


def test_a_stored_answer_goes_on_when_its_client_leaves_and_is_asked_for_once_under_a_key(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, ("A codon",), (" is three.",)))
    asked, once_only = {**BODY, "store": True, "stream": True}, {"Idempotency-Key": "k"}
    with asker.wire(PATH, asked, **once_only) as wire:
        conversation = int(wire.headers["x-conversation-id"])
        assert b"A codon" in (wire.chunk() or b"")
    gate.set()
    assert ended(asker, conversation)["state"] == "complete"
    again = asker.http.post(PATH, json=asked, headers=once_only)
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in events(again.text)[:-1]) == (
        "A codon is three."
    )
    assert int(again.headers["x-conversation-id"]) == conversation
    assert len(provider.requests) == 1
    problem(asker.http.post(PATH, json={**asked, "seed": 3}, headers=once_only), 422)


# -- Leaving, and limits -----------------------------------------------------------------------------------------------


def test_an_answer_that_is_not_stored_ends_when_its_client_leaves(asker: User, provider: ScriptedProvider) -> None:
    before = stored(asker)
    for number, (behaviour, stream) in enumerate(
        [(hang_after("A codon"), True), (hang_after("A codon"), False), (silence(), True), (silence(), False)]
    ):
        provider.script(behaviour)
        wire = asker.wire(PATH, {**BODY, "stream": stream})
        provider.wait_for_requests(number + 1)
        if number == 0:
            assert b"A codon" in (wire.chunk() or b"")
        wire.close()
        provider.wait_until_left(-1, 30)
    until(lambda: stored(asker) == before)
    [(answers, _, completion, estimated)] = tokens_used(asker)
    assert (answers in (1, 2), completion > 0, estimated) == (True, True, True)


def test_answers_of_both_kinds_count_together_on_all_workers(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.always(gated(gate, ("A codon",), (".",)))
    with ExitStack() as stack:
        wires = [stack.enter_context(asker.wire(PATH, {**BODY, "stream": True})) for _ in range(2)]
        asked = asker.question(asker.begin())
        wires.append(stack.enter_context(asker.wire("/chat/sendMessage/", asked)))
        assert all(wire.chunk() for wire in wires)
        for stream in (False, True):
            refused = post(asker, stream=stream)
            assert problem(refused, 429)["type"] == "urn:baio:error:too-many-answers"
            assert refused.headers["retry-after"] == "1"
        assert problem(asker.ask(asker.begin()), 429)["type"] == "urn:baio:error:too-many-answers"
        gate.set()
        assert all(wire.chunks()[1] for wire in wires)
    assert post(asker).status_code == 200


def test_a_stream_ends_with_the_token_that_opened_it_and_so_does_its_answer(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, ("A codon",), (".",)))
    token = create(asker, "short", ["ask"])
    with Wire(asker.server, "POST", PATH, {**BODY, "stream": True}, {"Authorization": f"Bearer {token}"}) as wire:
        assert b"A codon" in (wire.chunk() or b"")
        assert asker.http.post("/user/revokeToken/", json={"name": "short"}).status_code == 200
        pieces, closed = wire.chunks()
        assert closed
    [last] = events(b"".join(pieces).decode())
    assert (last["error"]["code"], last["error"]["type"]) == ("invalid_api_key", "authentication_error")
    provider.wait_until_left(-1, 30)


def test_deleting_its_key_stops_an_answer_on_any_worker(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.always(gated(gate, ("A codon",), (".",)))
    with ExitStack() as stack:
        wires = [stack.enter_context(asker.wire(PATH, {**BODY, "stream": True})) for _ in range(3)]
        assert all(wire.chunk() for wire in wires)
        assert asker.http.post("/chat/deleteAPIKey/", json={"nickname": "OpenAI Key"}).status_code == 200
        for wire in wires:
            rest, closed = wire.chunks()
            assert closed
            *_, end, done = events(b"".join(rest).decode())
            assert (end["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")


def test_a_token_without_the_scope_and_somebody_elses_key_are_of_no_use(
    asker: User, other: User, provider: ScriptedProvider
) -> None:
    reading = {"Authorization": f"Bearer {create(asker, 'reads', ['read', 'edit', 'tools'])}"}
    for response in (asker.http.post(PATH, json=BODY, headers=reading), asker.http.get("/v1/models", headers=reading)):
        assert problem(response, 403)["type"] == "urn:baio:error:scope-missing"
    assert other.http.get("/v1/models").json() == {"object": "list", "data": []}
    for model in (MODEL, "gpt-4o-mini"):
        assert problem(post(other, model=model), 404)["type"] == "urn:baio:error:model-not-found"
    assert len(provider.requests) == 0


# -- On the wire -------------------------------------------------------------------------------------------------------


def test_each_text_is_sent_as_it_arrives_in_the_form_of_openais_stream(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, ("A\u2028codon\x85 \N{DNA DOUBLE HELIX}",), (" is three",)))
    with asker.wire(PATH, {**BODY, "stream": True, "stream_options": {"include_usage": True}}) as wire:
        assert wire.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (wire.headers["cache-control"], wire.headers["x-accel-buffering"]) == ("no-store", "no")
        assert not {"x-answer-id", "x-conversation-id"} & set(wire.headers)
        first = (wire.chunk() or b"").decode()
        gate.set()
        rest, closed = wire.chunks()
    assert closed
    text = first + b"".join(rest).decode()
    assert text.splitlines() == text.split("\n")[:-1]  # whatever a client takes for the end of a line
    assert text.endswith("data: [DONE]\n\n")
    found = events(text)[:-1]
    names = {"id", "object", "created", "model", "choices", "usage"}
    assert all(set(each) == names and each["object"] == "chat.completion.chunk" for each in found)
    deltas = [choice["delta"] for each in found for choice in each["choices"]]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "A\u2028codon\x85 \N{DNA DOUBLE HELIX}"},
        {"content": " is three"},
        {},
    ]
    assert found[-1]["choices"] == []
    assert [each["usage"] for each in found] == [None] * 4 + [
        {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    ]


@once
def test_what_a_client_may_send_and_what_the_provider_gets_of_it(asker: User, provider: ScriptedProvider) -> None:
    ignored = {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "n": 1, "logprobs": False, "unknown": [1]}
    said_nothing = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tool_choice": "auto"}
    nulls = dict.fromkeys(("stop", "tools", "seed", "max_tokens", "stream", "store", "response_format", "functions"))
    sent = asker.http.post(PATH, json={**BODY, **ignored, **said_nothing, **nulls})
    assert sent.status_code == 200
    usual = {"model", "messages", "stream", "stream_options"}
    assert set(provider.requests[-1].body) == usual
    passed = {
        "temperature": 0.5, "top_p": 0.25, "seed": 7, "stop": ["\n", "END"], "frequency_penalty": 0.5,
        "presence_penalty": -0.5, "logit_bias": {"50256": -100}, "response_format": {"type": "json_object"},
        "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
    }  # fmt: skip
    assert post(asker, **passed, max_tokens=100, max_completion_tokens=50).status_code == 200
    got = provider.requests[-1].body
    assert {name: got[name] for name in passed} == passed
    assert set(got) == usual | set(passed) | {"max_completion_tokens"}
    assert got["max_completion_tokens"] == 50


@once
def test_messages_become_what_every_provider_takes(asker: User, provider: ScriptedProvider) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": "not JSON"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Three.", "name": "ole"},
        {"role": "assistant", "tool_calls": [{**call, "extra_content": {"google": {"thought_signature": "s"}}}],
         "reasoning_content": "Hmm."},
        {"role": "tool", "tool_call_id": "x", "content": [{"type": "text", "text": "rain"}]},
        {"role": "system", "content": "In English."},
    ]  # fmt: skip
    assert post(asker, messages=messages, tools=[TOOL]).status_code == 200
    made = {"id": "c00000001", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c00000001", "content": "rain"}
    assert provider.requests[-1].body["messages"] == [
        {"role": "system", "content": "Be brief.\n\nIn English."},
        {"role": "user", "content": "One.\nTwo.\n\nThree."},
        {"role": "assistant", "reasoning_content": "Hmm.",
         "tool_calls": [{"extra_content": {"google": {"thought_signature": "s"}}, **made}]},
        result,
    ]  # fmt: skip
    assert post(asker, messages=messages).status_code == 200  # the tools are gone
    assert provider.requests[-1].body["messages"][-1] == {
        "role": "user",
        "content": "One.\nTwo.\n\nThree.\n\nThe tools' results:\nweather({}) = rain",
    }
    assert post(asker, model="OpenAI Key/o1-mini", messages=[messages[0], *QUESTION]).status_code == 200
    assert provider.requests[-1].body["messages"] == [{"role": "user", "content": "Be brief.\n\nWhat is a codon?"}]


@once
@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "A"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": QUESTION * 2049}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [*QUESTION, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [*QUESTION, {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "y"}}]}]},
            "messages[1].tool_calls",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "store": True}, "store"),
        ({"store": True, "messages": [{"role": "system", "content": "x" * 32_001}, *QUESTION]}, "messages"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": []}, "functions"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"temperature": 2.1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 10**6}, "max_completion_tokens"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"seed": "7"}, "seed"),
        ({"model": " "}, "model"),
    ],
)
def test_a_refusal_names_the_field_and_nothing_is_asked(
    changes: dict[str, Any], param: str, asker: User, provider: ScriptedProvider
) -> None:
    assert named(post(asker, **changes)) == {param}
    assert len(provider.requests) == 0


@once
def test_a_model_of_several_keys_needs_its_nickname_or_the_default_preset(
    asker: User, provider: ScriptedProvider
) -> None:
    assert post(asker, model="GPT-4o Mini").status_code == 200
    asker.add_key("Second", "sk-second-0123456789")
    refused = post(asker, model="gpt-4o-mini")
    assert named(refused) == {"model"}
    assert "OpenAI Key/gpt-4o-mini or Second/gpt-4o-mini" in refused.json()["error"]["message"]
    assert post(asker, model="Second/gpt-4o-mini").status_code == 200
    preset = {"name": "Default", "apikey_nickname": "Second"}
    assert asker.http.post("/chat/createPreset/", json=preset).status_code == 201
    assert post(asker, model="gpt-4o-mini").status_code == 200
    used = [request.headers["authorization"].removeprefix("Bearer ") for request in provider.requests]
    assert used == [KEY, "sk-second-0123456789", "sk-second-0123456789"]


@once
def test_a_parameter_that_only_the_provider_knows_it_does_not_take_is_left_out_and_named(
    asker: User, provider: ScriptedProvider
) -> None:
    for stream in (False, True):
        provider.script(refuse(400, says="Unsupported parameter: 'seed'"), answer("Yes."))
        answered = post(asker, seed=7, top_p=0.5, stream=stream)
        assert (answered.status_code, answered.headers["x-unused-parameters"]) == (200, "seed")
    provider.script(refuse(400, says="response_format is not supported by this model"))
    refused = post(asker, response_format={"type": "json_object"})
    assert refused.json()["error"]["param"] == "response_format", refused.text


@once
def test_errors_of_every_kind_have_openais_form(asker: User, visitor: httpx2.Client) -> None:
    kinds = {
        401: visitor.get("/v1/models"),
        404: asker.http.get("/v1/nothing"),
        405: asker.http.get(PATH),
        413: asker.http.post(PATH, content=b"{" + b" " * 8_388_608, headers={"Content-Type": "application/json"}),
        415: asker.http.post(PATH, content=b"{}", headers={"Content-Type": "text/plain"}),
        400: asker.http.post(PATH, content=b"{", headers={"Content-Type": "application/json"}),
    }
    for status, response in kinds.items():
        problem(response, status)
    assert kinds[401].headers["www-authenticate"] == "Bearer"
    assert kinds[405].headers["allow"]
    hint = asker.http.post("/chat/completions", json=BODY)
    assert "/v1" in problem(hint, 404)["detail"]


@once
def test_a_conflict_is_not_repeated_by_the_client(client: openai.OpenAI, asker: User) -> None:
    asker.add_key("unreadable from now on")
    with asker.server.engine() as engine, engine.begin() as connection:
        broken = update(api_keys).where(api_keys.c.nickname == "unreadable from now on").values(sealed=b"broken")
        assert connection.execute(broken).rowcount == 1
    with pytest.raises(openai.ConflictError) as conflict:
        client.with_options(max_retries=2).chat.completions.create(
            model="unreadable from now on/gpt-4o-mini", messages=QUESTION
        )
    assert conflict.value.code == "api_key_unreadable"
    assert conflict.value.request.headers["x-stainless-retry-count"] == "0"


@once
def test_a_page_of_an_allowed_origin_may_send_the_headers_of_openais_client(asker: User) -> None:
    asked = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-arch,x-stainless-lang,"
        "x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
        "x-stainless-runtime-version,x-stainless-timeout,x-stainless-helper-method",
    }
    assert asker.http.options(PATH, headers=asked).status_code == 204
    refused = asker.http.options(PATH, headers={**asked, "Origin": "http://elsewhere.example"})
    problem(refused, 400)


@once
def test_a_whole_answer_of_a_provider_that_does_not_stream_has_its_calls(
    asker: User, provider: ScriptedProvider
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    provider.script(whole({"choices": [choice], "model": "m"}))
    answered = post(asker, tools=[TOOL]).json()
    [made] = answered["choices"][0]["message"]["tool_calls"]
    assert made["function"] == call["function"]
    assert (answered["choices"][0]["finish_reason"], answered["usage"]) == ("tool_calls", None)

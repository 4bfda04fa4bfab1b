"""The contracts of what other packages add to BAiO, as pytest tests: subclass one and say what it is to test.

A gateway (``LLMGateway``) comes with a bench, which is the gateway together with a fake provider that follows
instructions. The tests run on asyncio with anyio's pytest plugin:

    class TestMyGateway(GatewayContract):
        @pytest.fixture
        def bench(self) -> Bench:
            return MyBench()

A tool (``Tool``) comes with arguments of calls that succeed:

    class TestMyTool(ToolContract):
        tool = MY_TOOL
        calls = ({"sequence": "ACGT"},)

BAiO's own gateways and tools pass the same tests. BAiO installs anyio, but you must install pytest.
"""

import asyncio
import copy
import inspect
import logging
import re
import traceback
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Protocol, cast

import pytest

from baio_domain.entities import Model, model_spec_problems
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
    ToolsRefused,
)
from baio_domain.parameters import Parameters, Value, parameter_problems
from baio_domain.ports import (
    Called,
    Finished,
    GatewayItem,
    GatewayStream,
    LLMGateway,
    ParameterGateway,
    Thinking,
    ToolGateway,
)
from baio_domain.prompts import Turn, UsedTool
from baio_domain.tool_calls import complete_arguments, perform
from baio_domain.tools import Tool, ToolOutcome, ToolRefused, ToolSpec, ToolState, canonical_json

KEY = "sk-canary-of-the-key-0123456789"
PROMPT = [
    Turn("system", "You are BAiO."),
    Turn("user", "What is DNA?"),
    Turn("assistant", "A molecule."),
    Turn("user", "canary-of-the-prompt: what is a codon?"),
]
PROVIDER_TEXT = "provider-says-secret-things"
"""Your provider should include this text in its error messages: the tests check that it never reaches the user."""

FAILURES = {
    "key": KeyRefused,
    "model": ModelRefused,
    "too long": PromptTooLong,
    "prompt": PromptRefused,
    "rate": ProviderRateLimited,
    "broken": ProviderBroken,
    "slow": ProviderTooSlow,
}
"""The errors that a gateway may raise, by the name that ``Bench.fail_after`` gets."""

SECRETS = (KEY, KEY[-8:], "canary-of-the-prompt", PROVIDER_TEXT)
"""What no error and no log line contains."""


ODD_PIECES = (
    "\n",
    " lines\r\n\r\nand \u2028 \u2029 \x85 \x0b \x1e separators",
    "[DONE]",
    "data: \n\n",
    'null" \\u0000 \\ ',
    "x" * 200_000,
    "e\u0301 🧬 \u202e",
    " ",
)
"""Texts of an answer that look like framing to a careless reader, or are longer than its buffer."""


class Bench(Protocol):
    """A gateway and its fake provider. Each instruction applies to the next request."""

    gateway: LLMGateway

    @property
    def asked(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        """The requests so far, each with its key, the model's identifier, and the texts of its turns."""

    @abstractmethod
    def answer(self, *texts: str) -> None:
        """Send these texts and finish, with the reason "stop", a model and token counts."""

    @abstractmethod
    def hang_after(self, *texts: str) -> None:
        """Send these texts, and then keep the connection open without sending anything."""

    @abstractmethod
    def stop_after(self, *texts: str) -> None:
        """Send these texts, and end the stream without a finish reason."""

    @abstractmethod
    def fail_after(self, failure: str, *texts: str) -> bool:
        """Send these texts and fail with one of ``FAILURES``; whether the protocol has this failure at this point."""

    def think(self, thoughts: Sequence[str], *texts: str) -> bool:
        """Send these thoughts, then these texts, and finish; whether the protocol can tell thinking from text.

        The default is for one that can't: it sends the texts.
        """
        del thoughts
        self.answer(*texts)
        return False

    @abstractmethod
    async def closed(self) -> bool:
        """Whether the provider sees, within a second, that the last request's connection is closed."""


@pytest.mark.anyio
class GatewayContract:
    """What ``LLMGateway`` promises. A subclass defines a fixture ``bench``, which makes a new bench for each test."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio only, as gateways do."""
        return "asyncio"

    def stream(self, bench: Bench, key: str = KEY) -> GatewayStream:
        """Open a stream for ``PROMPT``."""
        spec = bench.gateway.provider.models[0]
        return bench.gateway.stream(key=key, model=Model.of(1, 1, spec), prompt=PROMPT)

    async def items(self, bench: Bench, key: str = KEY) -> list[GatewayItem]:
        """Everything that the stream yields."""
        async with aclosing(self.stream(bench, key)) as stream:
            return [item async for item in stream]

    async def test_a_stream_yields_texts_that_are_not_empty_and_then_Finished_once(self, bench: Bench) -> None:
        bench.answer("A codon ", "", "is ", "three nucleotides", " 🧬.")
        *texts, last = await self.items(bench)
        assert isinstance(last, Finished)
        assert all(isinstance(text, str) and text for text in texts)
        assert "".join(str(text) for text in texts) == "A codon is three nucleotides 🧬."

    async def test_every_character_of_a_text_arrives_as_it_was_sent(self, bench: Bench) -> None:
        texts = ODD_PIECES
        bench.answer(*texts)
        items = await self.items(bench)
        assert "".join(item for item in items if isinstance(item, str)) == "".join(texts)

    async def test_an_answer_without_text_is_only_Finished(self, bench: Bench) -> None:
        bench.answer()
        [last] = [item for item in await self.items(bench) if not isinstance(item, Thinking)]
        assert isinstance(last, Finished)

    async def test_a_prompt_of_one_question_is_sent_as_it_is(self, bench: Bench) -> None:
        bench.answer("Yes.")
        model = Model.of(1, 1, bench.gateway.provider.models[0])
        async with aclosing(bench.gateway.stream(key=KEY, model=model, prompt=PROMPT[-1:])) as stream:
            assert await anext(stream) == "Yes."
        assert [tuple(texts) for _, _, texts in bench.asked] == [(PROMPT[-1].content,)]

    async def test_Finished_has_the_reason_the_model_and_the_token_counts(self, bench: Bench) -> None:
        bench.answer("Yes.")
        last = (await self.items(bench))[-1]
        assert isinstance(last, Finished)
        assert last.reason == "stop"
        assert last.model
        assert last.usage is not None
        assert last.usage.prompt_tokens > 0
        assert last.usage.completion_tokens > 0

    async def test_nothing_is_sent_before_the_first_anext(self, bench: Bench) -> None:
        bench.answer("Yes.")
        stream = self.stream(bench)
        await asyncio.sleep(0.05)
        assert len(bench.asked) == 0
        assert await anext(stream) == "Yes."
        assert len(bench.asked) == 1
        await stream.aclose()

    async def test_a_stream_that_was_never_started_can_be_closed_and_sends_nothing(self, bench: Bench) -> None:
        await self.stream(bench).aclose()
        assert len(bench.asked) == 0

    async def test_each_request_carries_its_key_its_model_and_its_prompt(self, bench: Bench) -> None:
        keys = [f"sk-of-user-{number}" for number in range(10)]
        await asyncio.gather(*(self.items(bench, key) for key in keys))
        assert sorted(key for key, _, _ in bench.asked) == keys
        model = bench.gateway.provider.models[0].identifier
        assert {(asked, tuple(texts)) for _, asked, texts in bench.asked} == {
            (model, tuple(turn.content for turn in PROMPT))
        }

    async def test_closing_the_stream_closes_the_providers_connection(self, bench: Bench) -> None:
        bench.hang_after("A codon ")
        stream = self.stream(bench)
        assert await anext(stream) == "A codon "
        await stream.aclose()
        assert await bench.closed()

    async def test_cancelling_the_consumer_closes_the_providers_connection(self, bench: Bench) -> None:
        bench.hang_after("A codon ")
        started = asyncio.Event()

        async def consume() -> None:
            async with aclosing(self.stream(bench)) as stream:
                async for _ in stream:
                    started.set()

        consumer = asyncio.create_task(consume())
        await started.wait()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert await bench.closed()

    async def test_cancelling_the_consumer_before_the_first_text_closes_the_providers_connection(
        self, bench: Bench
    ) -> None:
        bench.hang_after()
        consumer = asyncio.create_task(self.items(bench))
        async with asyncio.timeout(10):
            while not bench.asked:  # noqa: ASYNC110 - a bench has no event for it
                await asyncio.sleep(0.01)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert await bench.closed()

    async def test_a_stream_that_ends_without_a_finish_reason_has_no_Finished(self, bench: Bench) -> None:
        bench.stop_after("A codon ", "is")
        items = await self.items(bench)
        assert "".join(str(item) for item in items) == "A codon is"
        assert not any(isinstance(item, Finished) for item in items)

    @pytest.mark.parametrize("failure", FAILURES)
    async def test_a_failure_before_the_first_text_raises_the_right_error_and_leaks_nothing(
        self, bench: Bench, failure: str
    ) -> None:
        assert bench.fail_after(failure)
        with pytest.raises(FAILURES[failure]) as raised:
            await self.items(bench)
        check_nothing_leaks(raised.value)
        assert len(bench.asked) == 1

    async def test_no_log_line_of_any_level_has_the_key_the_prompt_or_the_providers_words(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        bench.answer("Yes.")
        await self.items(bench)
        for failure, kind in FAILURES.items():
            assert bench.fail_after(failure)
            with pytest.raises(kind):
                await self.items(bench)
        written = caplog.text + "".join(str(vars(record)) for record in caplog.records)
        for secret in SECRETS:
            assert secret not in written

    @pytest.mark.parametrize("failure", ["broken", "rate"])
    async def test_a_failure_after_the_first_text_raises_the_right_error_and_leaks_nothing(
        self, bench: Bench, failure: str
    ) -> None:
        assert bench.fail_after(failure, "A codon ")
        stream = self.stream(bench)
        assert await anext(stream) == "A codon "
        with pytest.raises(FAILURES[failure]) as raised:
            await anext(stream)
        check_nothing_leaks(raised.value)
        assert len(bench.asked) == 1

    @pytest.mark.parametrize("failure", ["broken", "rate"])
    async def test_the_text_before_a_failure_is_yielded_however_soon_the_failure_follows(
        self, bench: Bench, failure: str
    ) -> None:
        assert bench.fail_after(failure, "A codon ", "is ", "three ")
        texts: list[str] = []

        async def consume() -> None:
            async for item in self.stream(bench):
                texts.append(str(item))  # noqa: PERF401 - what came before an error counts

        with pytest.raises(FAILURES[failure]):
            await consume()
        assert "".join(texts) == "A codon is three "

    async def test_thinking_is_yielded_as_such_and_never_as_text(self, bench: Bench) -> None:
        can_think = bench.think(["The user ", "asks. "], "A codon ", "is ...")
        items = await self.items(bench)
        assert isinstance(items[-1], Finished)
        assert "".join(item for item in items if isinstance(item, str)) == "A codon is ..."
        thoughts = [item.text for item in items if isinstance(item, Thinking)]
        assert "".join(thoughts) == ("The user asks. " if can_think else "")
        if can_think:
            assert isinstance(items[0], Thinking)

    async def test_the_request_after_a_failure_is_answered(self, bench: Bench) -> None:
        bench.fail_after("broken")
        with pytest.raises(ProviderBroken):
            await self.items(bench)
        bench.answer("Yes.")
        assert (await self.items(bench))[0] == "Yes."

    async def test_the_models_that_it_lists_can_be_offered_and_none_is_listed_twice(self, bench: Bench) -> None:
        listed = await bench.gateway.list_models(key=KEY)
        for spec in listed or bench.gateway.provider.models:
            assert list(model_spec_problems(spec)) == []
        identifiers = [spec.identifier for spec in listed or bench.gateway.provider.models]
        assert len(identifiers) == len(set(identifiers))


OFFERED = (
    ToolSpec(
        "count_bases",
        1,
        "Counts the bases of a sequence.",
        "The number of letters.",
        {"type": "object", "properties": {"sequence": {"type": "string", "description": "The sequence."}}},
    ),
    ToolSpec("now", 1, "Tells the time.", "The time.", {"type": "object", "properties": {}}),
)
"""The tools that the tests offer."""

USED = (
    UsedTool("Ab3dEf7h9", "count_bases", '{"sequence":"ACGT"}', '{"length":4}'),
    UsedTool("Zb3dEf7h9", "now", "{}", '{"error":"busy"}', failed=True),
)
"""The calls in a prompt, with their results."""

Sent = tuple[str, object, str]
"""A call as a provider was sent it back: the tool, the arguments, and the result with the same id."""


class ToolBench(Bench, Protocol):
    """The bench of a gateway whose models call tools."""

    gateway: ToolGateway

    @property
    def offered(self) -> Sequence[Sequence[str]]:
        """The names of the tools that each request so far offers, empty for a request that has no such field."""

    @property
    def sent(self) -> Sequence[Sent]:
        """The calls in the last request, in order."""

    @abstractmethod
    def call(self, calls: Sequence[tuple[str, str]], *texts: str) -> None:
        """Send these texts, then calls of tools with these arguments in several pieces, and finish."""

    @abstractmethod
    def call_half(self, *texts: str) -> None:
        """Send these texts and the beginning of a call, and end the stream."""

    @abstractmethod
    def refuse_tools(self) -> None:
        """Refuse the request because the model takes no tools."""


class ToolGatewayContract(GatewayContract):
    """What ``ToolGateway`` promises besides. The fixture ``bench`` makes a ``ToolBench``."""

    async def asked_with_tools(self, bench: ToolBench, *more: Turn) -> list[GatewayItem]:
        """Everything that the stream for ``PROMPT`` and these turns yields when tools are offered."""
        model = Model.of(1, 1, bench.gateway.provider.models[0])
        stream = bench.gateway.stream(key=KEY, model=model, prompt=[*PROMPT, *more], tools=OFFERED)
        async with aclosing(stream):
            return [item async for item in stream]

    async def test_calls_are_whole_and_come_in_order_between_the_text_and_Finished(self, bench: ToolBench) -> None:
        calls = [("count_bases", '{"sequence": "ACGT"}'), ("now", "{}"), ("count_bases", '{"sequence": "AC"}')]
        bench.call(calls, "Let me ", "count.")
        *items, last = [item for item in await self.asked_with_tools(bench) if not isinstance(item, Thinking)]
        assert isinstance(last, Finished)
        assert last.reason == "tool_calls"
        called = [(item.name, item.arguments) for item in items if isinstance(item, Called)]
        assert called == calls
        assert "".join(item for item in items[:-3] if isinstance(item, str)) == "Let me count."

    async def test_a_call_without_arguments_has_an_empty_object(self, bench: ToolBench) -> None:
        bench.call([("now", "")])
        assert [item.arguments for item in await self.asked_with_tools(bench) if isinstance(item, Called)] == ["{}"]

    async def test_arguments_that_grow_are_a_sign_of_life(self, bench: ToolBench) -> None:
        bench.call([("count_bases", '{"sequence": "' + "ACGT" * 100 + '"}')])
        assert any(isinstance(item, Thinking) for item in await self.asked_with_tools(bench))

    async def test_a_call_in_a_stream_that_was_cut_is_not_yielded(self, bench: ToolBench) -> None:
        bench.call_half("Let me ")
        items = await self.asked_with_tools(bench)
        assert not any(isinstance(item, Called | Finished) for item in items)

    async def test_tools_are_offered_only_where_they_are_given(self, bench: ToolBench) -> None:
        bench.answer("Yes.")
        await self.asked_with_tools(bench)
        bench.answer("Yes.")
        await self.items(bench)
        assert [list(names) for names in bench.offered] == [["count_bases", "now"], []]

    async def test_each_call_of_the_prompt_is_sent_with_its_result(self, bench: ToolBench) -> None:
        bench.answer("Four.")
        items = await self.asked_with_tools(bench, Turn("assistant", "Let me count.", USED))
        assert items[0] == "Four."
        assert [(name, arguments, result) for name, arguments, result in bench.sent] == [
            ("count_bases", {"sequence": "ACGT"}, '{"length":4}'),
            ("now", {}, '{"error":"busy"}'),
        ]

    async def test_what_a_turn_wants_back_is_accepted_in_the_next_request(self, bench: ToolBench) -> None:
        bench.call([("now", "{}")], "Let me look.")
        items = await self.asked_with_tools(bench)
        called, finished = items[-2:]
        assert isinstance(called, Called)
        assert isinstance(finished, Finished)
        used = UsedTool("Ab3dEf7h9", called.name, called.arguments, "noon", opaque=called.opaque)
        bench.answer("Noon.")
        again = await self.asked_with_tools(bench, Turn("assistant", "Let me look.", (used,), finished.opaque))
        assert again[0] == "Noon."
        assert list(bench.sent) == [("now", {}, "noon")]

    async def test_a_refusal_of_the_tools_is_told_apart_and_leaks_nothing(self, bench: ToolBench) -> None:
        bench.refuse_tools()
        with pytest.raises(ToolsRefused) as raised:
            await self.asked_with_tools(bench)
        check_nothing_leaks(raised.value)


VALUES: Parameters = {
    "temperature": 0.5,
    "top_p": 0.25,
    "max_output_tokens": 300,
    "reasoning_effort": "low",
    "seed": 7,
}
"""The parameters that the tests send, if the gateway takes them."""


class ParameterBench(ToolBench, Protocol):
    """The bench of a gateway that passes parameters on."""

    gateway: ParameterGateway

    @property
    def parameters(self) -> Parameters:
        """The parameters that the last request has, by the names of ``VALUES``, except those in every request."""

    @abstractmethod
    def refuse_parameter(self, name: str) -> None:
        """Refuse the request because the model does not take this parameter."""


class ParameterGatewayContract(ToolGatewayContract):
    """What ``ParameterGateway`` promises besides. The fixture ``bench`` makes a ``ParameterBench``."""

    def values(self, bench: ParameterBench) -> dict[str, Value]:
        """The parameters that the gateway takes for its first model."""
        accepted = bench.gateway.provider.accepted(bench.gateway.provider.models[0].identifier)
        return {name: value for name, value in VALUES.items() if name in accepted}

    async def asked_with(self, bench: ParameterBench, parameters: Parameters) -> list[GatewayItem]:
        """Everything that the stream for ``PROMPT`` yields with these parameters."""
        model = Model.of(1, 1, bench.gateway.provider.models[0])
        stream = bench.gateway.stream(key=KEY, model=model, prompt=PROMPT, parameters=parameters)
        async with aclosing(stream):
            return [item async for item in stream]

    async def test_it_takes_parameters_with_values_that_are_possible(self, bench: ParameterBench) -> None:
        accepted = bench.gateway.provider.accepted(bench.gateway.provider.models[0].identifier)
        assert accepted
        assert list(parameter_problems(self.values(bench), accepted)) == []

    async def test_parameters_are_sent_only_where_they_are_given(self, bench: ParameterBench) -> None:
        values = self.values(bench)
        for given in (values, {}, *({name: value} for name, value in values.items())):
            bench.answer("Yes.")
            assert (await self.asked_with(bench, given))[0] == "Yes."
            assert dict(bench.parameters) == given

    async def test_a_refusal_of_a_parameter_names_it_and_leaks_nothing(self, bench: ParameterBench) -> None:
        values = self.values(bench)
        for name in values:
            bench.refuse_parameter(name)
            with pytest.raises(ParametersRefused) as raised:
                await self.asked_with(bench, values)
            assert raised.value.names == [name]
            check_nothing_leaks(raised.value)


def check_nothing_leaks(error: BaioError) -> None:
    """Check that neither the error nor its causes contain the key, the prompt or the provider's own words."""
    chain: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is not None and current not in chain:
            chain.append(current)
            pending.append(current.__cause__)
            pending.append(None if current.__suppress_context__ else current.__context__)
    visible = "".join(f"{each}{each!r}{each.args}" for each in chain) + "".join(traceback.format_exception(error))
    visible += f"{error.detail}{error.errors}{error.members}"
    for secret in SECRETS:
        assert secret not in visible


KEYWORDS = {"type", "description", "default", "enum", "minimum", "maximum", "items", "minItems", "maxItems"}
"""The keywords that the schema of a parameter may have: providers refuse others."""

ODD_TEXTS = ("", " ", "\N{DNA DOUBLE HELIX}", "1e999", "-", "*", ">", "N" * 10_000, "lorem ipsum\n" * 100)
"""What a model may send as a text."""


class ToolContract:
    """What ``Tool`` promises. ``calls`` are the arguments of calls that succeed."""

    tool: ClassVar[Tool]
    calls: ClassVar[Sequence[Mapping[str, object]]]

    def call(self, arguments: Mapping[str, object]) -> ToolOutcome:
        """Call the tool as BAiO does; arguments that don't fit the schema are a refusal, too."""
        try:
            complete = complete_arguments(self.tool.spec.parameters, arguments)
        except ToolRefused as refused:
            return ToolOutcome(ToolState.REFUSED, arguments, {"error": refused.error, "detail": refused.detail})
        return perform(self.tool, complete)

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """The schemas of the parameters."""
        return cast("Mapping[str, Mapping[str, Any]]", self.tool.spec.parameters["properties"])

    def test_the_name_is_one_that_every_provider_accepts(self) -> None:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", self.tool.spec.name)

    def test_description_and_definition_are_lines_of_text_and_there_is_a_version(self) -> None:
        spec = self.tool.spec
        for text in (spec.description, spec.definition):
            assert text.strip()
            assert len(text.splitlines()) == 1
        assert str(spec.version).strip()

    def test_every_parameter_has_a_type_and_no_keyword_that_providers_refuse(self) -> None:
        parameters = self.tool.spec.parameters
        assert parameters.keys() <= {"type", "properties", "required"}
        assert parameters["type"] == "object"
        assert set(cast("list[str]", parameters.get("required", []))) <= self.properties.keys()
        for schema in self.properties.values():
            assert schema.keys() <= KEYWORDS
            assert schema["type"] in {"string", "integer", "number", "boolean", "array"}
            assert str(schema.get("description", "-")).strip()
            assert schema["type"] != "array" or schema["items"]["type"] in {"string", "integer", "number", "boolean"}
            assert "enum" not in schema or schema["type"] == "string"

    def test_defaults_are_values_that_the_schema_accepts(self) -> None:
        for name, schema in self.properties.items():
            if "default" in schema:
                accepted = complete_arguments({"properties": {name: schema}}, {name: schema["default"]})
                assert accepted.values == {name: schema["default"]}
                assert not accepted.coerced

    def test_the_function_takes_every_parameter_by_name(self) -> None:
        inspect.signature(self.tool.function).bind(**dict.fromkeys(self.properties))

    def test_calls_succeed_and_have_a_headline_of_one_line(self) -> None:
        assert len(self.calls) > 0
        for arguments in self.calls:
            outcome = self.call(arguments)
            assert outcome.state == ToolState.DONE, outcome.result
            assert outcome.result
            assert len(outcome.line.splitlines()) == 1
            assert len(outcome.line) <= 500
            assert not outcome.line.endswith(".")

    def test_the_inputs_of_a_call_belong_to_its_arguments(self) -> None:
        for arguments in self.calls:
            for each in self.call(arguments).inputs:
                assert each.argument in self.properties
                assert re.fullmatch("[0-9a-f]{64}", each.sha256)

    def test_the_same_arguments_give_the_same_result_and_stay_as_they_are(self) -> None:
        for arguments in self.calls:
            given = copy.deepcopy(dict(arguments))
            first, second = self.call(given), self.call(given)
            assert canonical_json(first.result) == canonical_json(second.result)
            assert first.line == second.line
            assert given == arguments

    def test_odd_values_are_computed_with_or_refused_with_what_to_do(self) -> None:
        odd: Mapping[str, Sequence[object]] = {
            "string": ODD_TEXTS,
            "integer": (0, -1),
            "number": (0, -1, 0.5),
            "boolean": (True, False),
        }
        for name, schema in self.properties.items():
            for value in odd.get(schema["type"], ([],)):
                for arguments in self.calls:
                    outcome = self.call({**arguments, name: value})
                    assert outcome.state in (ToolState.DONE, ToolState.REFUSED), outcome.result
                    if outcome.state == ToolState.REFUSED:
                        assert re.fullmatch("[a-z]+(-[a-z]+)*", str(outcome.result["error"]))
                        assert str(outcome.result["detail"]).strip()

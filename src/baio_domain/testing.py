"""The contract of ``LLMGateway`` as pytest tests: subclass ``GatewayContract`` and define the fixture ``bench``.

    class TestMyGateway(GatewayContract):
        @pytest.fixture
        def bench(self) -> Bench:
            return MyBench()

A bench is a gateway together with a fake provider that follows instructions. BAiO's own gateways pass the same tests.
The tests run on asyncio with anyio's pytest plugin. BAiO installs anyio, but you must install pytest.
"""

import asyncio
import logging
import traceback
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import aclosing
from typing import Protocol

import pytest

from baio_domain.entities import Model, model_spec_problems
from baio_domain.errors import (
    BaioError,
    KeyRefused,
    ModelRefused,
    PromptRefused,
    PromptTooLong,
    ProviderBroken,
    ProviderRateLimited,
    ProviderTooSlow,
)
from baio_domain.ports import Finished, GatewayStream, LLMGateway, Thinking
from baio_domain.prompts import Turn

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

    async def items(self, bench: Bench, key: str = KEY) -> list[str | Thinking | Finished]:
        """Everything that the stream yields."""
        async with aclosing(self.stream(bench, key)) as stream:
            return [item async for item in stream]

    async def test_a_stream_yields_texts_that_are_not_empty_and_then_Finished_once(self, bench: Bench) -> None:
        bench.answer("A codon ", "", "is ", "three nucleotides", " 🧬.")
        *texts, last = await self.items(bench)
        assert isinstance(last, Finished)
        assert all(isinstance(text, str) and text for text in texts)
        assert "".join(str(text) for text in texts) == "A codon is three nucleotides 🧬."

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

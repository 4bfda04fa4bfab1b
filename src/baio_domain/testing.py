"""The contract of every gateway to models, as tests for pytest: subclass ``GatewayContract`` and give it a ``bench``.

    class TestMyGateway(GatewayContract):
        @pytest.fixture
        def bench(self) -> Bench:
            return MyBench()

A bench is a gateway with a provider that can be told what to do. BAiO's own gateways pass the same tests. The tests run
on asyncio through anyio's plugin, which comes with BAiO; pytest does not.
"""

import asyncio
import traceback
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

import pytest

from baio_domain.entities import Model
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
from baio_domain.ports import Finished, LLMGateway
from baio_domain.prompts import Turn

KEY = "sk-canary-of-the-key-0123456789"
PROMPT = [Turn("system", "You are BAiO."), Turn("user", "canary-of-the-prompt: what is a codon?")]
PROVIDERS_WORDS = "provider-says-secret-things"

PROMISED = {
    "key": KeyRefused,
    "model": ModelRefused,
    "too long": PromptTooLong,
    "prompt": PromptRefused,
    "rate": ProviderRateLimited,
    "broken": ProviderBroken,
    "slow": ProviderTooSlow,
}
"""The failures that a gateway may raise, by the name under which a bench can bring each about."""


class Bench(Protocol):
    """A gateway and its provider. What is told holds for the next question."""

    gateway: LLMGateway

    @property
    def asked(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        """What has been asked so far: key, model's identifier, and the turns' texts."""

    @abstractmethod
    def answer(self, *texts: str) -> None:
        """Say these texts and finish, with the reason "stop", a model and token counts."""

    @abstractmethod
    def hang_after(self, *texts: str) -> None:
        """Say these texts, and then nothing."""

    @abstractmethod
    def stop_after(self, *texts: str) -> None:
        """Say these texts, and end without finishing."""

    @abstractmethod
    def fail_after(self, failure: str, *texts: str) -> bool:
        """Say these texts and fail in this way; whether the protocol has such a failure at this point."""

    @abstractmethod
    async def closed(self) -> bool:
        """Whether the provider has noticed, within a second, that the last question's connection is closed."""


@pytest.mark.anyio
class GatewayContract:
    """What ``LLMGateway`` promises. A subclass has a fixture ``bench``, with a new bench for each test."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio alone, as gateways do."""
        return "asyncio"

    def stream(self, bench: Bench, key: str = KEY) -> AsyncGenerator[str | Finished, None]:
        """Ask the canary."""
        spec = bench.gateway.provider.models[0]
        return bench.gateway.stream(key=key, model=Model.of(1, 1, spec), prompt=PROMPT)

    async def items(self, bench: Bench, key: str = KEY) -> list[str | Finished]:
        """All that is yielded."""
        async with aclosing(self.stream(bench, key)) as stream:
            return [item async for item in stream]

    async def test_it_yields_text_none_of_it_empty_and_then_Finished_once_and_last(self, bench: Bench) -> None:
        bench.answer("A codon ", "", "is ", "three nucleotides", " 🧬.")
        *texts, last = await self.items(bench)
        assert isinstance(last, Finished)
        assert all(isinstance(text, str) and text for text in texts)
        assert "".join(str(text) for text in texts) == "A codon is three nucleotides 🧬."

    async def test_it_says_why_it_finished_which_model_it_was_and_what_it_took(self, bench: Bench) -> None:
        bench.answer("Yes.")
        last = (await self.items(bench))[-1]
        assert isinstance(last, Finished)
        assert last.reason == "stop"
        assert last.model
        assert last.usage is not None
        assert last.usage.prompt_tokens > 0
        assert last.usage.completion_tokens > 0

    async def test_nothing_is_asked_before_the_first_anext(self, bench: Bench) -> None:
        bench.answer("Yes.")
        stream = self.stream(bench)
        await asyncio.sleep(0.05)
        assert len(bench.asked) == 0
        assert await anext(stream) == "Yes."
        assert len(bench.asked) == 1
        await stream.aclose()

    async def test_a_stream_that_was_never_begun_can_be_closed_and_has_asked_nothing(self, bench: Bench) -> None:
        await self.stream(bench).aclose()
        assert len(bench.asked) == 0

    async def test_the_key_the_model_and_the_prompt_arrive_with_each_call(self, bench: Bench) -> None:
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

    async def test_cancelling_whoever_waits_closes_the_providers_connection(self, bench: Bench) -> None:
        bench.hang_after("A codon ")
        begun = asyncio.Event()

        async def listen() -> None:
            async with aclosing(self.stream(bench)) as stream:
                async for _ in stream:
                    begun.set()

        listening = asyncio.create_task(listen())
        await begun.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        assert await bench.closed()

    async def test_a_stream_that_stops_without_finishing_has_no_Finished(self, bench: Bench) -> None:
        bench.stop_after("A codon ", "is")
        items = await self.items(bench)
        assert "".join(str(item) for item in items) == "A codon is"
        assert not any(isinstance(item, Finished) for item in items)

    @pytest.mark.parametrize("failure", PROMISED)
    async def test_a_failure_before_the_first_text_is_of_the_promised_kind_and_tells_nothing(
        self, bench: Bench, failure: str
    ) -> None:
        assert bench.fail_after(failure)
        with pytest.raises(PROMISED[failure]) as raised:
            await self.items(bench)
        check_it_tells_nothing(raised.value)
        assert len(bench.asked) == 1

    @pytest.mark.parametrize("failure", ["broken", "rate"])
    async def test_a_failure_after_the_first_text_is_of_the_promised_kind_and_tells_nothing(
        self, bench: Bench, failure: str
    ) -> None:
        assert bench.fail_after(failure, "A codon ")
        stream = self.stream(bench)
        assert await anext(stream) == "A codon "
        with pytest.raises(PROMISED[failure]) as raised:
            await anext(stream)
        check_it_tells_nothing(raised.value)
        assert len(bench.asked) == 1

    async def test_after_a_failure_the_next_question_is_answered(self, bench: Bench) -> None:
        bench.fail_after("broken")
        with pytest.raises(ProviderBroken):
            await self.items(bench)
        bench.answer("Yes.")
        assert (await self.items(bench))[0] == "Yes."


def check_it_tells_nothing(error: BaioError) -> None:
    """Check that neither the error nor what led to it holds the key, the prompt or the provider's own words."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in seen:
            seen.append(each)
            waiting.append(each.__cause__)
            waiting.append(None if each.__suppress_context__ else each.__context__)
    said = "".join(f"{each}{each!r}{each.args}" for each in seen) + "".join(traceback.format_exception(error))
    said += f"{error.detail}{error.errors}{error.members}"
    for secret in (KEY, KEY[-8:], "canary-of-the-prompt", PROVIDERS_WORDS):
        assert secret not in said

"""``baio benchmark-model``: how well a model answers questions about sequences with BAiO's tools, and without.

The questions go the way of all questions, through the same use cases, to the model's provider. Nothing is stored: the
database is in memory. The right values are those of the tools.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace

from baio_api.container import Container
from baio_api.model_questions import Question, questions
from baio_domain.entities import Caller, ModelSpec, Profile, ProviderSpec, ToolCall
from baio_domain.errors import BaioError, FieldError, InvalidInput, KeyRefused, ModelRefused
from baio_domain.ports import LLMGateway, ToolGateway
from baio_domain.rounds import MAX_ROUNDS, MIN_WINDOW
from baio_domain.text import folded
from baio_domain.tool_records import ended_call
from baio_domain.tools import ToolOutcome

KEY_NAME = "benchmark"

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was asked, and its outcome. Without tools, only ``answered`` can be true.

    ``called``: the tool was called. ``arguments``: it was called with the right arguments. ``value``: it gave the right
    values. ``answered``: the model's own text has the right values. ``error`` says why there is no answer.
    """

    tool: str
    called: bool = False
    arguments: bool = False
    value: bool = False
    answered: bool = False
    error: str = ""

    @property
    def told(self) -> str:
        """It as a line of progress."""
        return f"{self.tool}: {self.error or ('right' if self.answered else 'not right')}"


@dataclass(frozen=True, slots=True)
class Expected:
    """A question with the call that answers it, as it was computed here."""

    question: Question
    outcome: ToolOutcome

    @property
    def values(self) -> list[object]:
        """What an answer must say."""
        return self.question.values(dict(self.outcome.result))

    def is_right(self, call: ToolCall) -> bool:
        """Whether a call gave the right result."""
        return call.result_sha256 == ended_call(self.outcome).result_sha256

    def has_arguments(self, call: ToolCall) -> bool:
        """Whether a call was given the right sequences, and gave a result: what a default is, may be written or not."""
        given = sorted(each.sha256 for each in call.inputs)
        return given == sorted(each.sha256 for each in self.outcome.inputs) and (bool(given) or self.is_right(call))


def find_model(gateways: Sequence[LLMGateway], wanted: str) -> tuple[LLMGateway, ModelSpec]:
    """The gateway and the model with this identifier or name.

    PROVIDER/IDENTIFIER names any model of a provider, also one that BAiO does not know. Raises InvalidInput.
    """
    found = [
        (gateway, model)
        for gateway in gateways
        for model in gateway.provider.models
        if folded(wanted)
        in {folded(name) for name in (model.identifier, model.name, f"{gateway.provider.name}/{model.identifier}")}
    ]
    if not found:
        found = [
            (gateway, ModelSpec(identifier, identifier, 2 * MIN_WINDOW, 4_096))
            for gateway in gateways
            for identifier in [wanted[len(gateway.provider.name) + 1 :]]
            if identifier and folded(wanted).startswith(f"{folded(gateway.provider.name)}/")
        ]
    if len(found) != 1:
        providers = ", ".join(gateway.provider.name for gateway in gateways)
        problem = "is offered by several providers" if found else "is not known"
        raise InvalidInput.of(
            FieldError("--model", f"{problem}: write PROVIDER/IDENTIFIER, PROVIDER being {providers}")
        )
    return found[0]


async def run_benchmark(
    container: Container,
    model: str,
    key: str,
    count: int | None,
    agreed: Callable[[str], bool],
    progress: Callable[[str], None],
) -> str | None:
    """Ask the first ``count`` questions without tools and then with them, and return the table of outcomes.

    ``agreed`` is told how many requests are sent, and nothing is asked unless it returns True: the result is None then.
    The container is one of ``in_memory``. Raises InvalidInput for an unknown model, and KeyRefused and ModelRefused,
    which hold for all questions.
    """
    asking = questions()[:count]
    async with AsyncExitStack() as opened:
        for known in container.gateways().values():
            opened.push_async_callback(known.aclose)
        toolbox = await opened.enter_async_context(aclosing(container.toolbox()))
        gateway, spec = find_model(list(container.gateways().values()), model)
        if not isinstance(gateway, ToolGateway):
            raise InvalidInput.of(FieldError("--model", f"{gateway.provider.name} can't be sent tools"))
        if not agreed(costs(len(asking), spec.name)):
            return None
        await opened.enter_async_context(container.answering().running(0))
        expected = [Expected(each, await toolbox.run(each.tool, each.arguments)) for each in asking]
        found: dict[bool, list[Asked]] = {False: [], True: []}
        for tools, results in found.items():
            caller = await _asking_user(container, gateway, spec, key, tools=tools)
            for place, each in enumerate(expected, 1):
                asked = await _asked(container, caller, spec.identifier, each)
                results.append(asked)
                progress(f"{'with' if tools else 'without'} tools, {place} of {len(asking)}, {asked.told}")
    return table(found[False], found[True])


async def _asking_user(container: Container, gateway: LLMGateway, model: ModelSpec, key: str, *, tools: bool) -> Caller:
    """A new account with the key, for which the model has tools or not."""
    offered = replace(model, tools=tools, context_window=max(model.context_window, MIN_WINDOW))
    await container.load_catalogue()([ProviderSpec(gateway.provider.name, (offered,))])
    name = f"benchmark-{secrets.token_hex(4)}"
    user = await container.create_user()(
        username=name,
        email=f"{name}@benchmark.invalid",
        password=secrets.token_urlsafe(32),
        profile=Profile("Model", "Benchmark"),
    )
    caller = Caller(user.id)
    await container.add_api_key()(caller, key=key, nickname=KEY_NAME, provider=gateway.provider.name)
    return caller


async def _asked(container: Container, caller: Caller, model: str, each: Expected) -> Asked:
    thread = await container.create_conversation()(caller, "")
    tool, error = each.question.tool, ""
    try:
        answer = await container.send_message()(
            caller, conversation_id=thread.id, apikey_nickname=KEY_NAME, model=model, content=each.question.text
        )
        text = "".join([piece async for piece in answer.follow(0)])
    except (KeyRefused, ModelRefused):
        raise
    except BaioError as failure:
        text, error = "", failure.detail
    calls = [call async for page in container.get_tool_calls()(caller, conversation_id=thread.id) for call in page]
    own = "".join(_own_text(text, calls))
    of_tool = [call for call in calls if call.tool == tool]
    return Asked(
        tool,
        bool(of_tool),
        any(map(each.has_arguments, of_tool)),
        any(map(each.is_right, of_tool)),
        says(each.values, own),
        error,
    )


def _own_text(text: str, calls: Sequence[ToolCall]) -> Iterator[str]:
    """What the model itself wrote, without BAiO's lines."""
    at = 0
    for call in calls:
        yield text[at : call.offset]
        at = call.offset + call.length
    yield text[at:]


def says(values: Sequence[object], text: str) -> bool:
    """Whether a text has all of these values.

    Letters count in any case and with spaces between them. A number counts if it is the value, rounded to the decimals
    that the text gives; to none only if the value is whole.
    """
    letters = re.sub(r"\s", "", text).casefold()
    numbers = [number.replace(",", "") for number in _NUMBER.findall(text.replace("\u2212", "-"))]
    return all(
        any(_same(value, number) for number in numbers)
        if isinstance(value, int | float)
        else str(value).casefold() in letters
        for value in values
    )


def _same(value: float, number: str) -> bool:
    decimals = len(number.partition(".")[2])
    return float(number) == round(value, decimals) and (decimals > 0 or value == int(value))


def table(without: Sequence[Asked], with_tools: Sequence[Asked]) -> str:
    """What came of the questions, by tool and altogether."""
    rows: list[tuple[str, ...]] = [
        ("", "without tools", "with tools", "", "", ""),
        ("tool", "answered", "called", "arguments", "value", "quoted"),
    ]
    for tool in [*dict.fromkeys(each.tool for each in without), ""]:
        plain = [each for each in without if tool in ("", each.tool)]
        used = [each for each in with_tools if tool in ("", each.tool)]
        counts = (
            sum(each.answered for each in plain),
            sum(each.called for each in used),
            sum(each.arguments for each in used),
            sum(each.value for each in used),
            sum(each.value and each.answered for each in used),
        )
        rows.append((tool or "all", *(f"{count} of {len(plain)}" for count in counts)))
    padded = (map(str.ljust, row, _WIDTHS) for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


_WIDTHS = (20, 13, 10, 10, 10, 10)


def costs(count: int, model: str) -> str:
    """How many requests the benchmark sends, in words."""
    return (
        f"This asks {model} {count} questions twice: {count} requests without tools, and with tools usually"
        f" {2 * count}, at most {(MAX_ROUNDS + 1) * count}."
    )

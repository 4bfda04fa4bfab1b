"""Gateways, which send prompts to the providers' models."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from baio_domain.entities import AnswerState, Model, ModelSpec, ProviderSpec, Usage
from baio_domain.parameters import Accepted, Parameters
from baio_domain.prompts import Turn
from baio_domain.tools import ToolSpec


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model is working on the answer without sending text: it thinks, or writes a tool call.

    ``text`` is its thoughts, empty if the provider does not show them. It prolongs the deadlines, so a gateway never
    yields it for a mere keep-alive.
    """

    text: str = ""


@dataclass(frozen=True, slots=True)
class Called:
    """The model calls a tool. The call is complete, and the stream has already yielded all of its text.

    ``arguments`` is the text that the model wrote. It may be invalid JSON, but is never blank: ``{}`` stands for none.
    ``opaque`` comes back to this gateway with the call in the next request of the same answer.
    """

    name: str
    arguments: str
    opaque: object = None


NO_PARAMETERS: Parameters = {}

TOOL_ROUNDS = "tool-rounds"
"""The reason of an answer that ended because its model called tools again and again."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer, after its last text and calls.

    ``reason`` is the provider's finish reason, as the OpenAI term if there is one (see ``openai_finish_reason``).
    ``model`` is the provider's name of the model that answered. ``opaque``, such as signed thinking, comes back to this
    gateway with the text and the calls in the next request of the same answer. It is never stored.
    """

    reason: str
    model: str | None = None
    usage: Usage | None = None
    opaque: object = field(default=None, repr=False)

    @property
    def state(self) -> AnswerState:
        """The state of an answer with text that ended for this reason. An unknown reason says that nothing is wrong."""
        if _letters(self.reason) in _FAILURES:
            return AnswerState.FAILED
        cut = openai_finish_reason(self.reason) in ("length", "content_filter", "pause_turn", TOOL_ROUNDS)
        return AnswerState.TRUNCATED if cut else AnswerState.COMPLETE


def openai_finish_reason(reason: str) -> str:
    """OpenAI's term for a provider's finish reason, in any case and spelling; a reason without one stays as it is."""
    return _TERMS.get(_letters(reason), reason)


def _letters(reason: str) -> str:
    return "".join(filter(str.isalnum, reason.lower())).removeprefix("finishreason")


_SPELLINGS = {
    "stop": "stop end_turn stop_sequence eos eos_token complete",
    "length": "length max_tokens max_output_tokens max_completion_tokens max_length model_length error_limit"
    " model_context_window_exceeded context_length_exceeded",
    "content_filter": "content_filter content_filtered refusal safety recitation blocklist prohibited_content spii"
    " image_safety language sensitive guardrail_intervened error_toxic",
    "tool_calls": "tool_calls tool_call tool_use function_call",
    "pause_turn": "pause_turn",  # not a term of OpenAI's: Anthropic's model wants to be asked to go on
}
"""The finish reasons of OpenAI, Anthropic, Gemini, Mistral, DeepSeek, Cohere, Bedrock, Zhipu, vLLM and TGI."""

_TERMS = {_letters(spelling): term for term, spellings in _SPELLINGS.items() for spelling in spellings.split()}

_FAILURES = frozenset(
    map(
        _letters,
        (
            "error", "abort", "aborted", "cancel", "cancelled", "canceled", "user_cancel", "timeout", "failed",
            "network_error", "server_error", "internal_error", "insufficient_system_resource",
            "malformed_function_call", "unexpected_tool_call",
        ),
    )
)  # fmt: skip
"""The finish reasons of answers that the provider did not finish."""


GatewayItem = str | Thinking | Called | Finished
"""A piece of an answer."""

GatewayStream = AsyncGenerator[GatewayItem, None]
"""An answer as it arrives from a provider."""


class LLMGateway(Protocol):
    """Sends prompts to the models of one provider. One gateway serves all users; each call has the user's key."""

    provider: ProviderSpec

    @abstractmethod
    def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> GatewayStream:
        """Send a prompt and yield the answer's text as it arrives, never empty, and at the end ``Finished``, once.

        The prompt has at most one system turn, which is its first. Then the user's turns and the assistant's alternate,
        beginning and ending with the user's. No turn is blank.

        ``Thinking`` says in between, as often as the provider does, that the model is at work. Text that arrived before
        a failure is yielded before the error is raised, even if both arrived together. Nothing is sent before the first
        ``anext``. A stream that ends without ``Finished`` was cut by the provider. Closing the generator closes the
        connection to the provider. Before or after the first text, it may raise KeyRefused, ModelRefused,
        PromptTooLong, PromptRefused, ProviderRateLimited, ProviderBroken or ProviderTooSlow; the error contains neither
        the key nor the prompt nor the provider's own words. No request is retried.
        """

    async def check_key(self, *, key: str) -> bool:
        """Check the key with the provider, at no cost. Raises the same errors as ``stream``.

        True if the provider accepts the key; False, which is the default, if there is no way to find out.
        """
        del key
        return False

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """List the provider's models, at no cost. Raises the same errors as ``stream``.

        Properties that the provider does not state are guessed conservatively. An entry that can't be read, or comes a
        second time, is skipped and does not affect other models. None, which is the default, if the provider can't list
        its models.
        """
        del key
        return None

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""


class ToolGateway(LLMGateway):
    """A gateway whose models can call tools. Other gateways never get tools."""

    @abstractmethod
    def stream(
        self, *, key: str, model: Model, prompt: Sequence[Turn], tools: Sequence[ToolSpec] = ()
    ) -> GatewayStream:
        """As ``LLMGateway.stream``, with tools that the model can call.

        If it calls some, the stream yields a ``Called`` for each, in the model's order, after all text and before
        ``Finished``. An incomplete call is not yielded when the stream is cut. Growing arguments are ``Thinking``.

        An assistant's turn of the prompt may have calls with results. They are sent as the protocol requires, and so is
        the ``opaque`` of turn and calls, unchanged, if it has the form that this gateway gives it. The prompt then may
        end with such a turn. A prompt has calls only where tools are given. It may raise ToolsRefused, too, if the
        provider does not accept tools for this model.
        """


class ParameterGateway(ToolGateway):
    """A gateway that passes parameters on. Other gateways never get any.

    Its ``provider`` says which ones it accepts.
    """

    @abstractmethod
    def stream(
        self,
        *,
        key: str,
        model: Model,
        prompt: Sequence[Turn],
        tools: Sequence[ToolSpec] = (),
        parameters: Parameters = NO_PARAMETERS,
    ) -> GatewayStream:
        """As ``ToolGateway.stream``, with parameters that ``provider.accepted`` has for this model.

        If the provider refuses one of them before its first text, it raises ParametersRefused with the names
        (``parameters``, separated by spaces).
        """


Extras = Mapping[str, object]
"""Fields of a request in OpenAI's protocol that are no parameters, by their names and in the form of that protocol.

``tool_choice`` and ``parallel_tool_calls`` are there only beside tools.
"""

NO_EXTRAS: Extras = {}


class ExtrasGateway(ParameterGateway):
    """A gateway that passes on other fields of OpenAI's protocol, too. Other gateways never get any.

    ``extras`` are the names of those that it passes on.
    """

    extras: frozenset[str]

    @abstractmethod
    def stream(
        self,
        *,
        key: str,
        model: Model,
        prompt: Sequence[Turn],
        tools: Sequence[ToolSpec] = (),
        parameters: Parameters = NO_PARAMETERS,
        extras: Extras = NO_EXTRAS,
    ) -> GatewayStream:
        """As ``ParameterGateway.stream``, with extras that it passes on.

        If the provider, or its protocol, does not accept one of them, it raises ParametersRefused with the names.
        """


def accepted_by(gateway: LLMGateway, model: str | None = None) -> dict[str, Accepted]:
    """The parameters that the gateway accepts for the model with this identifier, or for most of its models."""
    return gateway.provider.accepted(model) if isinstance(gateway, ParameterGateway) else {}


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The options with which a gateway is built.

    ``base_url`` is the URL of the API, None for the provider's own. ``provider`` is the provider and its models, None
    for the gateway's own. ``quirks`` names the server's deviations from the protocol; a gateway raises ValueError for
    one that it does not know. ``model_file`` is a file of weights, for a gateway that runs a model itself. ``proxy`` is
    the http or https URL of the proxy through which the provider is reached, None for no proxy; it can contain a user
    and a password, so it must not be logged.
    """

    base_url: str | None = None
    connect_seconds: float = 10.0
    provider: ProviderSpec | None = None
    quirks: frozenset[str] = frozenset()
    model_file: str | None = None
    proxy: str | None = field(default=None, repr=False)


GatewayFactory = Callable[[GatewayOptions], LLMGateway]
"""The type of an entry point in the group ``baio.llm_gateways``. It raises ValueError for invalid options, and
LookupError with a one-line reason if the gateway can't be used on this machine or with these options."""

Gateways = Mapping[str, LLMGateway]
"""The gateways in use, by their provider's name."""

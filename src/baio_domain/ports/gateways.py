"""Gateways: how the providers' models are asked."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.prompts import Turn


@dataclass(frozen=True, slots=True)
class Finished:
    """A provider's word that the answer is finished, after its last text.

    ``reason`` is the provider's, in OpenAI's terms where there is one: stop, length, content_filter. ``model`` is the
    model that answered, as the provider names it.
    """

    reason: str
    model: str | None = None
    usage: Usage | None = None


class LLMGateway(Protocol):
    """A way to ask the models of one provider. One gateway serves all users at once; the key arrives with each call."""

    provider: ProviderSpec

    @abstractmethod
    def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Ask, and yield the answer's text as it arrives, none of it empty; then ``Finished``, once, last.

        Nothing is sent before the first ``anext``. A stream that stops without ``Finished`` was cut by the provider.
        Closing the generator closes the provider's connection. Failures are KeyRefused, ModelRefused, PromptTooLong,
        PromptRefused, ProviderRateLimited, ProviderBroken or ProviderTooSlow, before the first text or after, and none
        of them holds the key, the prompt or the provider's own words. Nothing is asked twice.
        """

    async def check_key(self, *, key: str) -> bool:
        """Ask the provider whether it takes this key, spending nothing. Raises as ``stream`` does.

        True when it does; False when that can't be found out, which is what a gateway without this method says.
        """
        del key
        return False

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """Ask the provider which models there are, spending nothing. Raises as ``stream`` does.

        What the provider leaves unsaid is guessed carefully. None when it can't be asked, which is what a gateway
        without this method says.
        """
        del key
        return None

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of every connection."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What a gateway is built with.

    ``base_url`` is where its protocol is spoken, None for the provider's own place. ``provider`` is whom it speaks to
    and for, None for the provider that it brings. ``quirks`` are the names of what is peculiar about that server; a
    gateway raises ValueError for one it does not know. ``model_file`` is a file of weights, for a gateway that runs a
    model itself.
    """

    base_url: str | None = None
    connect_seconds: float = 10.0
    provider: ProviderSpec | None = None
    quirks: frozenset[str] = frozenset()
    model_file: str | None = None


GatewayFactory = Callable[[GatewayOptions], LLMGateway]
"""What an entry point of the group ``baio.llm_gateways`` names. It raises LookupError, saying why in one line, where it
has nothing to offer on this machine or with these options, and ValueError for options that are wrong."""

Gateways = Mapping[str, LLMGateway]
"""The gateways in use, by the name of their provider."""

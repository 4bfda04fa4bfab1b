"""Parameters: which there are, which a provider takes, and what stands in a request."""

import json
from collections.abc import Mapping
from math import inf, nan

import pytest

from baio_adapters.llm.anthropic import ANTHROPIC
from baio_adapters.llm.anthropic import PARAMETERS as OF_ANTHROPIC
from baio_adapters.llm.openai import OPENAI
from baio_adapters.llm.openai import PARAMETERS as OF_OPENAI
from baio_adapters.llm.refusals import refusal
from baio_domain.entities import ProviderSpec
from baio_domain.errors import ParametersRefused, PromptRefused, PromptTooLong
from baio_domain.parameters import (
    PARAMETERS,
    Accepted,
    Value,
    fields_of,
    fitting,
    parameter_problems,
    sent_names,
)


def problems(accepted: Mapping[str, Accepted], **parameters: Value) -> dict[str, str]:
    return {each.field: each.message for each in parameter_problems(parameters, accepted)}


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0}, {"temperature": 2}, {"temperature": 0.0001}, {"top_p": 1}, {"max_output_tokens": 1},
        {"reasoning_effort": "xhigh"}, {"seed": -(2**63)}, {"seed": 2**63 - 1}, {},
    ],
)  # fmt: skip
def test_values_in_their_range_are_right(parameters: dict[str, Value]) -> None:
    assert problems(PARAMETERS, **parameters) == {}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", 2.01, "must be from 0 to 2"), ("temperature", -0.1, "must be from 0 to 2"),
        ("temperature", "hot", "must be a number"), ("temperature", nan, "must be a number"),
        ("top_p", inf, "must be a number"), ("top_p", 1.5, "must be from 0 to 1"),
        ("max_output_tokens", 0, "must be from 1 to 100000000"), ("max_output_tokens", 1.0, "must be an integer"),
        ("seed", 2**63, f"must be from {-(2**63)} to {2**63 - 1}"), ("seed", "7", "must be an integer"),
        ("reasoning_effort", "huge", "must be one of: none, minimal, low, medium, high, xhigh, max"),
        ("reasoning_effort", 1, "must be one of: none, minimal, low, medium, high, xhigh, max"),
    ],
)  # fmt: skip
def test_values_outside_say_what_is_possible(name: str, value: Value, message: str) -> None:
    assert problems(PARAMETERS, **{name: value}) == {f"parameters.{name}": message}


def test_what_is_not_taken_is_refused_with_the_names_of_what_is() -> None:
    accepted = {"temperature": Accepted(most=1), "top_p": Accepted()}
    assert problems(accepted, temperature=1.5, seed=7) == {
        "parameters.temperature": "must be from 0 to 1",
        "parameters.seed": "seed is not accepted (accepted: temperature, top_p)",
    }
    assert problems({}, top_p=1) == {"parameters.top_p": "top_p is not accepted (accepted: none)"}
    assert problems(PARAMETERS, top_k=40) == {
        "parameters": f"an unknown parameter is not accepted (accepted: {', '.join(PARAMETERS)})"
    }


def test_what_does_not_fit_another_model_is_left_out() -> None:
    accepted = {"temperature": Accepted(most=1), "top_p": Accepted()}
    used, left_out = fitting({"temperature": 1.5, "top_p": 0.5, "seed": 7}, accepted)
    assert (used, left_out) == ({"top_p": 0.5}, ["temperature", "seed"])


def known(provider: ProviderSpec, protocol: Mapping[str, Accepted | None], model: str) -> dict[str, Accepted]:
    return provider.with_defaults(protocol).accepted(model)


def test_openai_takes_the_newer_name_and_its_models_take_what_they_can() -> None:
    assert fields_of({"max_output_tokens": 9, "seed": 7}, known(OPENAI, OF_OPENAI, "gpt-4o")) == {
        "max_completion_tokens": 9, "seed": 7
    }  # fmt: skip
    assert "reasoning_effort" not in known(OPENAI, OF_OPENAI, "gpt-4o-mini")
    assert list(known(OPENAI, OF_OPENAI, "o1-mini")) == ["max_output_tokens", "seed"]
    assert list(known(OPENAI, OF_OPENAI, "gpt-5-mini")) == ["max_output_tokens", "reasoning_effort", "seed"]
    elsewhere = ProviderSpec("Elsewhere", ())
    assert fields_of({"max_output_tokens": 9}, known(elsewhere, OF_OPENAI, "x")) == {"max_tokens": 9}


def test_anthropics_new_models_take_effort_and_no_temperature_and_others_one_up_to_1() -> None:
    accepted = known(ANTHROPIC, OF_ANTHROPIC, "claude-opus-5-5")
    assert list(accepted) == ["max_output_tokens", "reasoning_effort"]
    assert fields_of({"max_output_tokens": 9, "reasoning_effort": "low"}, accepted) == {
        "max_tokens": 9, "output_config": {"effort": "low"}
    }  # fmt: skip
    elsewhere = known(ProviderSpec("Elsewhere", ()), OF_ANTHROPIC, "x")
    assert problems(elsewhere, temperature=1.1, seed=1, reasoning_effort="minimal") == {
        "parameters.temperature": "must be from 0 to 1",
        "parameters.seed": "seed is not accepted (accepted: temperature, top_p, max_output_tokens, reasoning_effort)",
        "parameters.reasoning_effort": "must be one of: low, medium, high, xhigh, max",
    }


ALL: dict[str, Value] = {"temperature": 0.5, "top_p": 0.5, "max_output_tokens": 9, "reasoning_effort": "low", "seed": 7}
OPENAI_SENT = sent_names(ALL, known(OPENAI, OF_OPENAI, "gpt-4o"))
ANTHROPIC_SENT = sent_names(ALL, known(ANTHROPIC, OF_ANTHROPIC, "claude-opus-5-5"))
OTHERS_SENT = sent_names(ALL, known(ProviderSpec("Elsewhere", ()), OF_OPENAI, "x"))


def said(message: str, **more: str) -> dict[str, object]:
    return {"error": {"message": message, **more}}


OTHERS_REFUSALS = {
    "max_output_tokens": said(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        param="max_tokens",
    ),
    "reasoning_effort": {"error": "Model grok-4 does not support parameter reasoningEffort."},
    "temperature": said("Unsupported value: 'temperature' does not support 0.2 with this model.", param="temperature"),
    "seed": [said('Invalid JSON payload received. Unknown name "seed": Cannot find field.', status="INVALID_ARGUMENT")],
    "top_p": {
        "detail": [{"type": "extra_forbidden", "loc": ["body", "top_p"], "msg": "Extra inputs are not permitted"}]
    },
}
ANTHROPICS_REFUSALS = {
    "temperature": said("`temperature` is deprecated for this model.", type="invalid_request_error"),
    "top_p": said("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
    "reasoning_effort": said("output_config.effort: Input should be 'low'"),
}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    ("sent", "name", "body"),
    [
        *((OTHERS_SENT, name, body) for name, body in OTHERS_REFUSALS.items()),
        *((ANTHROPIC_SENT, name, body) for name, body in ANTHROPICS_REFUSALS.items()),
        (OPENAI_SENT, "max_output_tokens", said("max_completion_tokens is too large: 9")),
    ],
)
def test_each_servers_refusal_of_a_parameter_names_it(
    status: int, sent: Mapping[str, str], name: str, body: object
) -> None:
    error = refusal(status, {}, json.dumps(body).encode(), "Provider", sent)
    assert isinstance(error, ParametersRefused)
    assert error.names == [name]
    without = refusal(status, {}, json.dumps(body).encode(), "Provider")
    assert type(without) is PromptRefused


def test_a_refusal_that_means_something_else_is_none_of_a_parameter() -> None:
    too_long = b'{"error": {"message": "maximum context length is 8192 tokens; you set max_tokens to 9"}}'
    assert isinstance(refusal(400, {}, too_long, "Provider", OTHERS_SENT), PromptTooLong)
    assert not isinstance(refusal(429, {}, b'{"error": {"message": "temperature"}}', "P", OTHERS_SENT), PromptRefused)
    other = refusal(400, {}, b'{"error": {"message": "The seeds of the prompt are odd"}}', "Provider", OTHERS_SENT)
    assert type(other) is PromptRefused

"""What the world's servers say when they refuse a request, and what BAiO makes of it: one case for each wording.

The sentences have the form that the named server uses; names, numbers and keys are invented.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest

from baio_adapters.llm.anthropic import AnthropicGateway
from baio_adapters.llm.openai import OpenAIGateway
from baio_adapters.llm.refusals import WORDS, Meaning, map_error, refusal
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
    ToolsRefused,
)
from baio_domain.ports import Finished, GatewayItem, GatewayOptions, LLMGateway, Thinking
from baio_domain.testing import KEY, PROMPT, PROVIDER_TEXT, check_nothing_leaks
from tests.integration.scripted_provider import ScriptedProvider, answer, events, whole
from tests.integration.servers import User

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Case(NamedTuple):
    """A refusal: whose, with which status and body, and what it means."""

    server: str
    status: int
    body: Any
    means: type[BaioError]


def error(message: str, **more: object) -> dict[str, Any]:
    """An error as most servers send it."""
    return {"error": {"message": f"{message} {PROVIDER_TEXT} ...6789", **more}}


def said(message: str, **more: object) -> dict[str, Any]:
    """An error in an object of its own."""
    return {"message": f"{message} {PROVIDER_TEXT}", **more}


def google(code: int, status: str, message: str, *details: object) -> dict[str, Any]:
    """An error as Google sends it."""
    return error(message, code=code, status=status, details=list(details))


CASES = [
    # OpenAI, and servers that copy it
    Case(
        "OpenAI",
        400,
        error(
            "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use"
            " function tools, use /v1/responses or set reasoning_effort to 'none'.",
            type="invalid_request_error",
            param="reasoning_effort",
            code=None,
        ),
        ToolsRefused,
    ),
    Case(
        "OpenAI", 400, error("Too long.", type="invalid_request_error", code="context_length_exceeded"), PromptTooLong
    ),
    Case("OpenAI", 401, error("No.", type="invalid_request_error", code="invalid_api_key"), KeyRefused),
    Case("OpenAI", 429, error("No.", type="insufficient_quota", code="insufficient_quota"), ProviderRateLimited),
    Case(
        "OpenAI",
        429,
        error(
            "Request too large for gpt-9 on tokens per min (TPM): Limit 30000, Requested 41234. The input or output "
            "tokens must be reduced in order to run successfully.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        PromptTooLong,
    ),
    Case(
        "Groq",
        413,
        error(
            "Request too large for model `llama-9` on tokens per minute (TPM): Limit 6000, Requested 7123, please "
            "reduce your message size and try again.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        PromptTooLong,
    ),
    Case("Groq", 400, error("Gone.", type="invalid_request_error", code="model_decommissioned"), ModelRefused),
    # vLLM: the code is the status, and older versions have no "error"
    Case(
        "vLLM",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 8192 tokens. However, you requested 9001 tokens (8001 "
            "in the messages, 1000 in the completion). Please reduce the length of the messages or completion.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        PromptTooLong,
    ),
    Case(
        "vLLM",
        400,
        error(
            "The decoder prompt (length 9001) is longer than the maximum model length of 8192. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens.",
            type="BadRequestError",
            code=400,
        ),
        PromptTooLong,
    ),
    Case(
        "vLLM", 400, error("max_tokens must be at least 1, got -186.", type="BadRequestError", code=400), PromptTooLong
    ),
    Case("vLLM", 404, error("The model `x` does not exist.", type="NotFoundError", code=404), ModelRefused),
    Case("vLLM", 401, {"error": "Unauthorized"}, KeyRefused),
    # SGLang
    Case(
        "SGLang",
        400,
        {
            "object": "error",
            "message": "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        PromptTooLong,
    ),
    Case(
        "SGLang",
        400,
        error("Requested token count exceeds the model's maximum context length of 40960 tokens.", code=400),
        PromptTooLong,
    ),
    Case(
        "SGLang",
        500,
        error("Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).", code=500),
        PromptTooLong,
    ),
    # llama.cpp: the type tells more than the code, and one of its errors has neither
    Case(
        "llama.cpp",
        400,
        error(
            "the request exceeds the available context size. try increasing the context size or enable context shift",
            code=400,
            type="exceed_context_size_error",
            n_prompt_tokens=1407,
            n_ctx=256,
        ),
        PromptTooLong,
    ),
    Case("llama.cpp", 500, error("Context size has been exceeded.", code=500, type="server_error"), PromptTooLong),
    Case("llama.cpp", 401, error("Invalid API Key", code=401, type="authentication_error"), KeyRefused),
    Case("llama.cpp", 503, error("Loading model", code=503, type="unavailable_error"), ProviderBroken),
    Case(
        "llama-cpp-python",
        500,
        error("Requested tokens (9001) exceed context window of 8192", type="internal_server_error", code=None),
        PromptTooLong,
    ),
    # Ollama
    Case("Ollama", 404, error('model "x" not found, try pulling it first', type="api_error", code=None), ModelRefused),
    Case("Ollama", 500, error("the input length exceeds the context length", type="api_error"), PromptTooLong),
    Case("Ollama", 400, error("prompt too long; exceeded max context length by 9 tokens", type="x"), PromptTooLong),
    Case("Ollama", 404, {"error": "model 'x' not found"}, ModelRefused),
    Case("Ollama", 401, {"error": "unauthorized"}, KeyRefused),
    # DeepSeek
    Case(
        "DeepSeek",
        400,
        error(
            "This model's maximum context length is 131072 tokens. However, you requested 131134 tokens.",
            type="invalid_request_error",
            code="invalid_request_error",
        ),
        PromptTooLong,
    ),
    Case(
        "DeepSeek", 402, error("Insufficient Balance", type="unknown_error", code="invalid_request_error"), KeyRefused
    ),
    Case("DeepSeek", 401, error("Authentication Fails (no such user)", type="authentication_error"), KeyRefused),
    Case("DeepSeek", 400, error("Model Not Exist", type="invalid_request_error"), ModelRefused),
    Case("DeepSeek", 400, error("Content Exists Risk", type="invalid_request_error"), PromptRefused),
    # Gemini: a list, and 400 for a wrong key
    Case(
        "Gemini",
        400,
        [google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")],
        KeyRefused,
    ),
    Case("Gemini", 400, [google(400, "INVALID_ARGUMENT", "No.", {"reason": "API_KEY_INVALID"})], KeyRefused),
    Case(
        "Gemini",
        400,
        [
            google(
                400,
                "INVALID_ARGUMENT",
                "The input token count (2800010) exceeds the maximum number of tokens allowed (1048575).",
            )
        ],
        PromptTooLong,
    ),
    Case(
        "Gemini",
        429,
        [google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.")],
        ProviderRateLimited,
    ),
    Case("Gemini", 403, [google(403, "PERMISSION_DENIED", "Leaked.")], KeyRefused),
    Case("Gemini", 404, [google(404, "NOT_FOUND", "models/x is not found for API version v1.")], ModelRefused),
    Case("Gemini", 504, [google(504, "DEADLINE_EXCEEDED", "Too slow.")], ProviderTooSlow),
    Case("Gemini", 503, [google(503, "UNAVAILABLE", "The model is overloaded.")], ProviderBroken),
    # OpenRouter: the code is a status, and the error can come with 200
    Case("OpenRouter", 401, error("No auth credentials found", code=401), KeyRefused),
    Case("OpenRouter", 402, error("This request requires more credits, or fewer max_tokens.", code=402), KeyRefused),
    Case("OpenRouter", 402, error("Prompt tokens limit exceeded: 230799 > 91442.", code=402), PromptTooLong),
    Case("OpenRouter", 404, error("No endpoints found for x/y.", code=404), ModelRefused),
    Case("OpenRouter", 400, error("x/y is not a valid model ID", code=400), ModelRefused),
    Case("OpenRouter", 403, error("x requires moderation. Your input was flagged for: y.", code=403), PromptRefused),
    Case("OpenRouter", 200, error("Rate limit exceeded: free-models-per-day", code=429), ProviderRateLimited),
    Case("OpenRouter", 200, error("Provider returned error", code=502), ProviderBroken),
    Case(
        "OpenRouter",
        400,
        error(
            "Provider returned error",
            code=400,
            metadata={"raw": '{"error":{"message":"This endpoint\'s maximum context length is 8192 tokens."}}'},
        ),
        PromptTooLong,
    ),
    # Mistral
    Case(
        "Mistral",
        400,
        {
            "object": "error",
            "message": "Prompt contains 40001 tokens and 0 draft tokens, too large for model with 32768 maximum "
            "context length",
            "type": "invalid_request_prompt",
            "code": "3051",
        },
        PromptTooLong,
    ),
    Case("Mistral", 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}, ModelRefused),
    Case("Mistral", 401, {"detail": "Unauthorized"}, KeyRefused),
    Case(
        "Mistral",
        429,
        {"object": "error", "message": "Service tier capacity exceeded for this model.", "code": "3505"},
        ProviderRateLimited,
    ),
    # LiteLLM: codes are texts, and messages contain the upstream's
    Case(
        "LiteLLM",
        400,
        error(
            "litellm.BadRequestError: litellm.ContextWindowExceededError: AnthropicError - no. Received Model Group=x",
            type=None,
            code="400",
        ),
        PromptTooLong,
    ),
    Case(
        "LiteLLM",
        400,
        {
            "error": {
                "message": {"error": "/chat/completions: Invalid model name passed in model=x."},
                "type": "None",
                "code": "400",
            }
        },
        ModelRefused,
    ),
    Case("LiteLLM", 401, error("Authentication Error, Invalid proxy server token", type="auth_error"), KeyRefused),
    Case("LiteLLM", 400, error("No connected db.", type="no_db_connection", param=None, code="400"), KeyRefused),
    Case("LiteLLM", 400, error("Budget has been exceeded!", type="budget_exceeded", code="400"), ProviderRateLimited),
    Case("LiteLLM", 500, error("litellm.RateLimitError: no", type=None, code="429"), ProviderRateLimited),
    # TGI: the error is a text, and its type is beside it
    Case(
        "TGI",
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 8740 `inputs` "
            "tokens and 500 `max_new_tokens`",
            "error_type": "validation",
        },
        PromptTooLong,
    ),
    Case("TGI", 422, error("`inputs` must have less than 1024 tokens.", http_status_code=422), PromptTooLong),
    Case("TGI", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, ProviderRateLimited),
    Case("TGI", 200, error("No.", http_status_code=422), PromptRefused),
    # xAI: the error is a text, and a wrong key is 400
    Case(
        "xAI",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: xa***st. You can obtain an API key from https://console.example.org.",
        },
        KeyRefused,
    ),
    Case(
        "xAI",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        },
        PromptTooLong,
    ),
    Case(
        "xAI",
        429,
        {"error": "Your team 1-2-3 has either used all available credits or reached its monthly spending limit."},
        ProviderRateLimited,
    ),
    # Azure
    Case("Azure", 404, error("No such deployment.", code="DeploymentNotFound"), ModelRefused),
    Case("Azure", 400, error("Filtered.", code="content_filter", status=400), PromptRefused),
    Case("Azure", 429, error("Wait 7 seconds.", code="RateLimitReached"), ProviderRateLimited),
    Case(
        "Azure",
        401,
        {"statusCode": 401, "message": "Access denied due to invalid subscription key or wrong API endpoint."},
        KeyRefused,
    ),
    # LM Studio
    Case(
        "LM Studio",
        400,
        {
            "error": "The model is loaded with context length of only 4096 tokens. Try to load the model with a larger "
            "context length, or provide a shorter input."
        },
        PromptTooLong,
    ),
    # FastAPI quotes the request: its words are not the server's
    Case(
        "FastAPI",
        422,
        {"detail": [{"loc": ["body", "x"], "msg": "Field required", "input": "the maximum context length"}]},
        PromptRefused,
    ),
    # Proxies in front of any of them
    Case("nginx", 413, "<html><title>413 Request Entity Too Large</title></html>", PromptTooLong),
    Case("a firewall", 403, "<!DOCTYPE html><title>Attention Required!</title>", ProviderBroken),
    Case("another website", 404, "\n<html><title>404 Not Found</title></html>", ProviderBroken),
    Case("nginx", 401, "<html><title>401 Authorization Required</title></html>", KeyRefused),
    Case("nginx", 502, "<html><title>502 Bad Gateway</title></html>", ProviderBroken),
    Case("Envoy", 504, "upstream request timeout", ProviderTooSlow),
    # Bodies that say nothing
    Case("nobody", 400, [], PromptRefused),
    Case("nobody", 429, {"error": None}, ProviderRateLimited),
    Case("nobody", 500, "[" * 5000, ProviderBroken),
    Case("nobody", 400, {"error": [[{"error": {"error": {"error": {}}}}]]}, PromptRefused),
    Case("nobody", 400, {"error": {"message": {"message": 7}, "code": [], "type": {}, "details": 7}}, PromptRefused),
    Case("nobody", 400, error("x" * 50_000, code="y" * 50_000), PromptRefused),
]

CASES += [
    # A length in words that no table has
    *(
        Case(server, status, body, PromptTooLong)
        for server, status, body in (
            ("Bedrock", 400, said("Input is too long for requested model.")),
            ("OpenAI, behind a gateway", 400, error("Your input exceeds the context window of this model.")),
            ("Copilot", 400, error("prompt token count of 135000 exceeds the limit of 128000")),
            ("MiniMax", 400, error("invalid params, context window exceeds limit (2013)")),
            ("Kimi", 400, error("Invalid request: Your request exceeded model token limit: 131072")),
            ("Volcengine", 400, error("Total tokens of image and text exceed max message tokens.")),
            ("Cohere", 400, said("too many tokens: total number of tokens in the prompt cannot exceed 4081")),
            ("watsonx", 400, {"errors": [said("the number of input tokens 9001 cannot exceed the limit 8192")]}),
            ("Cloudflare", 400, {"errors": [said("The estimated number of input tokens (9001) exceeded 8192.")]}),
            ("Perplexity", 400, error("The total length of all messages is too long.")),
            ("TensorRT-LLM", 400, error("Prompt length (9001) exceeds maximum input length (8192).")),
            ("mlx", 400, error("Prompt exceeds maximum context window")),
            ("Databricks", 400, said('{"error":{"message":"Input is too long"}}', error_code="BAD_REQUEST")),
            ("NIM", 422, {"detail": "Inference error: input length 9001 exceeds 8192 tokens"}),
            # These are in the table
            ("Zhipu", 400, {"error": {"code": "1261", "message": "Prompt 超长"}}),
            ("DashScope", 400, error("Range of input length should be [1, 129024]", code="invalid_parameter_error")),
            ("SambaNova", 400, error("9002, but the maximum supported sequence length is just 8192!")),
            (
                "vLLM",
                400,
                error("a maximum input length of 7680 tokens. Please reduce the length of the input prompt."),
            ),
            ("Hugging Face", 422, {"error": "inputs tokens + max_new_tokens must be <= 4096. Given: 4200"}),
        )
    ),
    # What is too long or too much, but not the prompt
    *(
        Case("any", status, error(message), means)
        for status, message, means in (
            (400, "max_tokens is too large: 65536. This model supports at most 16384 tokens.", PromptRefused),
            (400, "The input parameter 'temperature' exceeds the maximum.", PromptRefused),
            (400, "stop: array too long. Expected an array with maximum length 4.", PromptRefused),
            (400, "tools: too many tools, at most 128.", PromptRefused),
            (429, "Too many tokens, please wait before trying again.", ProviderRateLimited),
        )
    ),
]


@pytest.fixture(params=["OpenAI's", "Anthropic's"])
async def gateway(provider: ScriptedProvider, request: pytest.FixtureRequest) -> AsyncIterator[LLMGateway]:
    """A gateway of each protocol, connected to the scripted provider."""
    elsewhere = ProviderSpec("Elsewhere", (ModelSpec("x", "X", 8_192, 2_048), ModelSpec("y", "Y", 8_192, 2_048)))
    options = GatewayOptions(base_url=provider.base_url, provider=elsewhere)
    made: LLMGateway = OpenAIGateway(options) if request.param == "OpenAI's" else AnthropicGateway(options)
    yield made
    await made.aclose()


async def items(gateway: LLMGateway, *, streaming: bool = True) -> list[GatewayItem]:
    """Everything that a stream yields, except thinking."""
    chosen = gateway.provider.models[0]
    spec = ModelSpec(chosen.identifier, chosen.name, 8_192, 2_048, streaming=streaming)
    async with aclosing(gateway.stream(key=KEY, model=Model.of(1, 1, spec), prompt=PROMPT)) as stream:
        return [item async for item in stream if not isinstance(item, Thinking)]


async def refused(gateway: LLMGateway, *, streaming: bool = True) -> BaioError:
    """The error that a request raises, which leaks nothing."""
    with pytest.raises(BaioError) as raised:
        await items(gateway, streaming=streaming)
    check_nothing_leaks(raised.value)
    return raised.value


async def test_each_servers_refusal_is_understood_in_both_protocols(
    gateway: LLMGateway, provider: ScriptedProvider
) -> None:
    provider.script(*(whole(case.body, case.status) for case in CASES))
    understood = [case._replace(means=type(await refused(gateway))) for case in CASES]
    assert understood == CASES


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_error_in_a_body_with_status_200_is_understood_by_its_words(
    gateway: LLMGateway, provider: ScriptedProvider, *, streaming: bool
) -> None:
    cases = [case for case in CASES if not isinstance(case.body, str)]
    provider.script(*(whole(case.body) for case in cases))
    misunderstood = [
        (case, found)
        for case in cases
        if (found := type(await refused(gateway, streaming=streaming))) not in (case.means, ProviderBroken)
    ]
    assert misunderstood == []


async def test_a_whole_answer_in_place_of_a_stream_is_an_answer(
    gateway: LLMGateway, provider: ScriptedProvider
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "A codon."}, "finish_reason": "stop"}
    completion = {"choices": [choice], "model": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    message = {  # LiteLLM
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A codon."}],
        "model": "x",
        "stop_reason": "end_turn",
        "type": "message",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    provider.script(whole(completion if isinstance(gateway, OpenAIGateway) else message))
    assert await items(gateway) == ["A codon.", Finished("stop", "x", Usage(3, 2))]
    provider.script(answer("A codon."))  # a stream, although none was asked for
    assert (await items(gateway, streaming=False))[0] == "A codon."
    provider.script(whole({"choices": 7, "content": 7}))
    assert type(await refused(gateway)) is ProviderBroken


@pytest.mark.parametrize(
    ("meaning", "words"), [(meaning, words) for meaning, rows in WORDS.items() for _, words in rows]
)
def test_an_error_inside_a_stream_is_understood_by_its_words_without_a_status(meaning: Meaning, words: str) -> None:
    said: list[object] = (
        [{"code": words}, {"type": words}] if words.replace("_", "").isalnum() else [{"message": words}, words]
    )
    for each in said:
        for body in (each, {"error": each}, [{"error": each}]):
            assert type(map_error(None, body, None)) is meaning.kind


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),  # FastAPI
        (404, {"error": {"message": "Not Found", "type": "Not Found", "param": None, "code": 404}}),  # vLLM
        (404, "404 page not found\n"),  # Ollama
        (404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}),  # llama.cpp
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "Not Found"}}),  # Anthropic
        (404, {"error": {"message": "Invalid URL (POST /v1/v1/chat/completions)", "code": None}}),  # OpenAI
        (404, {"error": {"message": "Unknown request URL: POST /v2", "code": "unknown_url"}}),  # Groq
        (404, ""),
        (405, {"detail": "Method Not Allowed"}),
        (200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}),  # LM Studio
        *((status, "") for status in (301, 302, 303, 307, 308)),
    ],
)
async def test_an_address_where_nothing_is_served_is_no_unknown_model(
    gateway: LLMGateway, provider: ScriptedProvider, status: int, body: object
) -> None:
    provider.script(whole(body, status))
    error = await refused(gateway)
    assert type(error) is ProviderBroken
    assert "address" in error.detail


def test_a_length_that_no_table_has_is_understood_inside_a_stream_by_its_code() -> None:
    message = {"message": "The prompt exceeds this model's tokens.", "code": 400}
    assert type(map_error(None, {"error": message}, None)) is PromptTooLong
    assert type(map_error(None, {"error": {**message, "code": 500}}, None)) is ProviderBroken


def test_a_parameter_that_is_refused_by_its_value_is_no_prompt_that_is_too_long() -> None:
    body = b'{"error": {"message": "The request has a top_p that exceeds what fits the context"}}'
    assert type(refusal(400, {}, body, "P", {"top_p": "top_p"})) is ParametersRefused
    assert type(refusal(400, {}, body, "P")) is PromptTooLong


def test_words_are_in_lower_case_and_each_has_one_meaning() -> None:
    words = [words for rows in WORDS.values() for _, words in rows]
    assert words == [each.lower() for each in words]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("number", [401, "401"])
def test_a_number_in_the_body_counts_as_a_status(number: object) -> None:
    assert type(map_error(None, {"error": {"code": number}}, None)) is KeyRefused
    assert type(map_error(500, {"error": {"code": number}}, None)) is KeyRefused
    assert type(map_error(400, {"error": {"code": 3051}}, None)) is PromptRefused


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [
        ("7", {"error": {"retry_after": 10}}, 7),
        (None, {"error": {"message": "Retry after 10 seconds.", "retry_after": 10}}, 10),  # several gateways
        (None, {"retry_after_seconds": "2.5"}, 2.5),
        (None, google(429, "RESOURCE_EXHAUSTED", "", {"@type": "RetryInfo", "retryDelay": "34s"}), 34),
        (None, {"error": {"retry_after": 10**8}}, 86_400),
        (None, {"error": {"message": "Rate limit reached for x. Please try again in 7.66s. Visit ..."}}, 7.66),
        (None, {"error": {"message": "Please try again in 1m6.5s."}}, 66.5),
        (None, {"error": {"message": "Please try again in 2h0m0s."}}, 7200),
        (None, {"error": {"message": "Please try again in 20ms."}}, 0.02),
        (None, [{"error": {"message": "Please retry in 34.074824224s."}}], 34.074824224),
        (None, {"error": {"message": "Please try again in 5 minutes."}}, None),
        (None, {"error": {"message": "Please try again in a while."}}, None),
        (None, {"error": {"retry_after": -1}}, None),
        (None, {"error": {"retry_after": "soon", "details": [7]}}, None),
        (None, {"error": {"retry_after": True}}, None),
    ],
)
def test_a_wait_is_passed_on_that_only_the_body_names(header: str | None, body: object, seconds: float | None) -> None:
    found = map_error(429, body, {} if header is None else {"retry-after": header})
    assert isinstance(found, ProviderRateLimited)
    assert found.retry_after == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after-ms": "9" * 11}, 86_400),
    ],
)
def test_the_finer_header_counts_more(headers: dict[str, str], seconds: float) -> None:
    found = map_error(429, {}, headers)
    assert isinstance(found, ProviderRateLimited)
    assert found.retry_after == seconds


@pytest.mark.parametrize(
    ("body", "means"),
    [
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail: Please carry the API secret key"}}, KeyRefused),
        ({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, KeyRefused),
        ({"code": 401, "msg": "token invalid", "success": False}, KeyRefused),
        ({"detail": "Invalid API key"}, KeyRefused),
        ({"errors": [{"message": "Authentication error", "code": 10000}], "success": False}, KeyRefused),
        ({"code": 404, "message": "no such model"}, ModelRefused),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_body_without_an_answer_that_says_something_is_a_refusal(
    gateway: LLMGateway, provider: ScriptedProvider, body: object, means: type[BaioError], *, streaming: bool
) -> None:
    provider.script(whole(body))
    assert type(await refused(gateway, streaming=streaming)) is means


async def test_a_status_in_which_nothing_is_wrong_is_no_refusal(provider: ScriptedProvider) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "A codon."}, "finish_reason": "stop"}
    completion = {"choices": [choice], "base_resp": {"status_code": 0, "status_msg": ""}}
    provider.script(whole(completion))
    gateway = OpenAIGateway(GatewayOptions(base_url=provider.base_url))
    assert await items(gateway) == ["A codon.", Finished("stop")]
    await gateway.aclose()


def test_too_long_in_a_servers_own_words_is_asked_again_with_half_of_the_conversation(
    user: User, provider: ScriptedProvider
) -> None:
    user.add_key()
    conversation = user.begin()
    assert user.ask(conversation, "First?").status_code == 200
    too_long = next(case for case in CASES if case.server == "vLLM")
    provider.script(whole(too_long.body, 400))
    assert user.ask(conversation, "Second?").status_code == 200
    assert [len(request.body["messages"]) for request in provider.requests] == [2, 4, 2]


def test_a_key_without_credit_is_told_apart_from_a_wrong_one(user: User, provider: ScriptedProvider) -> None:
    user.add_key()
    provider.script(whole(error("Insufficient Balance", code="invalid_request_error"), 402))
    problem = user.ask(user.begin())
    assert problem.status_code == 424
    assert "credit" in problem.json()["detail"]
    provider.script(events({"error": {"message": "Insufficient Balance"}}))
    assert "credit" in user.ask(user.begin()).json()["detail"]

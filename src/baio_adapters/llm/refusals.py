"""What a provider's refusal means: one table of the servers' own words, for both protocols.

Servers with the same protocol refuse with different statuses, codes and sentences. Only the meaning goes on from here:
no error and no log line contains the provider's own words.
"""

import errno
import json
import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import aiohttp
import httpx2
import msgspec

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

logger = logging.getLogger("baio.providers")

MAX_WAIT_SECONDS = 86_400.0
"""No longer wait is passed on to a client."""

MAX_MESSAGE_LENGTH = 2_000
"""How many characters of a message are searched: servers that quote the request do so at the end."""


class Meaning(Enum):
    """What a refusal means: the domain's error, and its detail if it has one of its own."""

    KEY = KeyRefused, None
    NO_CREDIT = KeyRefused, "This key's credit with the provider is used up."
    MODEL = ModelRefused, None
    TOO_LONG = PromptTooLong, None
    TOOLS = ToolsRefused, None
    PROMPT = PromptRefused, None
    RATE = ProviderRateLimited, None
    QUOTA = ProviderRateLimited, "This key's quota with the provider is exhausted."
    SLOW = ProviderTooSlow, None
    ADDRESS = ProviderBroken, "There is nothing to ask at the address that this server has for the provider (base_url)."
    BROKEN = ProviderBroken, None

    def __init__(self, kind: type[BaioError], detail: str | None) -> None:
        self.kind = kind
        self.detail = detail


WORDS: Mapping[Meaning, tuple[tuple[str, str], ...]] = {
    Meaning.TOO_LONG: (
        ("Anthropic", "prompt is too long"),
        ("Anthropic", "exceed context limit"),
        ("Anthropic", "request_too_large"),
        ("OpenAI, Azure, Groq", "context_length_exceeded"),
        ("OpenAI", "tokens exceed the configured limit"),
        ("OpenAI", "tokens must be reduced in order to run"),  # more tokens than this key has per minute
        ("OpenAI", "string_above_max_length"),
        ("Groq", "please reduce your message size"),  # more tokens than this key has per minute
        ("OpenAI, vLLM, DeepSeek, Mistral, OpenRouter, Ollama", "maximum context length"),
        ("vLLM", "maximum model length"),
        ("vLLM", "too long to fit into the model"),
        ("vLLM", "max_tokens must be at least 1, got -"),  # what the prompt leaves of the window
        ("SGLang", "longer than the model's context length"),
        ("SGLang", "exceeds the maximum allowed length"),
        ("llama.cpp", "exceed_context_size_error"),
        ("llama.cpp", "exceeds the available context size"),
        ("llama.cpp", "context size has been exceeded"),
        ("llama-cpp-python", "exceed context window of"),
        ("Ollama", "exceeds the context length"),
        ("Ollama", "exceeded max context length"),
        ("Gemini", "exceeds the maximum number of tokens allowed"),
        ("OpenRouter", "prompt tokens limit exceeded"),
        ("Mistral", "too large for model with"),
        ("LiteLLM", "contextwindowexceedederror:"),
        ("TGI", "tokens + `max_new_tokens` must be <="),
        ("TGI", "`inputs` must have less than"),
        ("xAI", "maximum prompt length is"),
        ("LM Studio", "exceeds context length"),
        ("LM Studio", "the model with a larger context length"),
        ("Groq, Cerebras, vLLM", "reduce the length of the"),
        ("Hugging Face", "tokens + max_new_tokens must be <="),
        ("DashScope", "range of input length should be"),
        ("SambaNova", "the maximum supported sequence length"),
        ("Zhipu", "1261"),
    ),
    Meaning.TOOLS: (
        ("OpenAI", "function tools with reasoning_effort are not supported"),
        ("Ollama", "does not support tools"),
        ("vLLM", '"auto" tool choice requires'),
        ("llama.cpp", "tools param requires --jinja"),
        ("OpenRouter", "no endpoints found that support tool use"),
        ("Groq", "tool calling` is not supported with this model"),
        ("DeepSeek", "does not support function calling"),
    ),
    Meaning.KEY: (
        ("OpenAI", "invalid_api_key"),
        ("OpenAI, xAI", "incorrect api key provided"),
        ("Anthropic, llama.cpp", "authentication_error"),
        ("Anthropic", "permission_error"),
        ("Anthropic", "organization_on_hold"),
        ("llama.cpp", "invalid api key"),
        ("Gemini", "api_key_invalid"),
        ("Gemini", "api key not valid"),
        ("Gemini", "api key expired"),
        ("Gemini", "unauthenticated"),
        ("Gemini", "permission_denied"),
        ("DeepSeek", "authentication fails"),
        ("OpenRouter", "no auth credentials found"),
        ("MiniMax", "login fail"),
        ("Cloudflare", "authentication error"),
        ("LiteLLM", "auth_error"),
        ("LiteLLM", "token_not_found_in_db"),
        ("LiteLLM", "no_db_connection"),  # without a database, it knows no key except its own
        ("Azure", "invalid subscription key"),
    ),
    Meaning.NO_CREDIT: (
        ("Anthropic", "billing_error"),
        ("Anthropic", "credit balance is too low"),
        ("Anthropic", "api usage limits"),
        ("DeepSeek", "insufficient balance"),
        ("OpenRouter", "insufficient credits"),
        ("OpenRouter", "requires more credits"),
        ("TGI", "monthly included credits"),
    ),
    Meaning.MODEL: (
        ("OpenAI, Groq, LM Studio", "model_not_found"),
        ("Groq", "model_decommissioned"),
        ("Anthropic, Ollama", "not_found_error"),
        ("vLLM", "notfounderror"),
        ("DeepSeek", "model not exist"),
        ("Gemini", "is not found for api version"),
        ("OpenRouter", "is not a valid model id"),
        ("OpenRouter", "no endpoints found"),
        ("Mistral", "invalid_model"),
        ("Mistral", "invalid model: "),
        ("Ollama", "not found, try pulling it first"),
        ("LiteLLM", "invalid model name passed in"),
        ("LiteLLM", "key_model_access_denied"),
        ("Azure", "deploymentnotfound"),
    ),
    Meaning.PROMPT: (
        ("Azure", "content_filter"),
        ("OpenAI", "content_policy_violation"),
        ("DeepSeek", "content exists risk"),
        ("OpenRouter", "your input was flagged"),
        ("LiteLLM", "contentpolicyviolationerror:"),
    ),
    Meaning.QUOTA: (
        ("OpenAI, Azure", "insufficient_quota"),
        ("OpenAI, Gemini", "exceeded your current quota"),
        ("Anthropic", "enforced_spend_limit_reached"),
        ("Anthropic", "contract_spend_limit_reached"),
        ("LiteLLM", "budget_exceeded"),
        ("LiteLLM", "budget has been exceeded"),
        ("xAI", "used all available credits"),
    ),
    Meaning.RATE: (
        ("OpenAI, Groq", "rate_limit_exceeded"),
        ("Anthropic", "rate_limit_error"),
        ("Azure", "ratelimitreached"),
        ("Gemini", "resource_exhausted"),
        ("LiteLLM", "ratelimiterror:"),
        ("Mistral", "service tier capacity exceeded"),
        ("vLLM, SGLang", "ratelimiterror"),
        ("TGI", "overloaded"),
    ),
    Meaning.ADDRESS: (
        ("LM Studio", "unexpected endpoint or method"),
        ("OpenAI", "invalid url ("),
        ("OpenAI, Groq", "unknown_url"),
    ),
    Meaning.SLOW: (
        ("Anthropic", "timeout_error"),
        ("Gemini", "deadline_exceeded"),
        ("LiteLLM", "litellm.timeout:"),
    ),
}
"""The words of each meaning, with the servers that use them, in lower case.

Words that are letters, digits and ``_`` are a code or a type, and must be equal. Others are part of a message.
"""

STATUSES: Mapping[int, Meaning] = {
    HTTPStatus.MOVED_PERMANENTLY: Meaning.ADDRESS,
    HTTPStatus.FOUND: Meaning.ADDRESS,
    HTTPStatus.SEE_OTHER: Meaning.ADDRESS,
    HTTPStatus.TEMPORARY_REDIRECT: Meaning.ADDRESS,
    HTTPStatus.PERMANENT_REDIRECT: Meaning.ADDRESS,
    HTTPStatus.BAD_REQUEST: Meaning.PROMPT,
    HTTPStatus.UNAUTHORIZED: Meaning.KEY,
    HTTPStatus.PAYMENT_REQUIRED: Meaning.NO_CREDIT,
    HTTPStatus.FORBIDDEN: Meaning.KEY,
    HTTPStatus.NOT_FOUND: Meaning.MODEL,
    HTTPStatus.METHOD_NOT_ALLOWED: Meaning.ADDRESS,
    HTTPStatus.REQUEST_TIMEOUT: Meaning.SLOW,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Meaning.TOO_LONG,
    HTTPStatus.UNPROCESSABLE_ENTITY: Meaning.PROMPT,
    HTTPStatus.TOO_MANY_REQUESTS: Meaning.RATE,
    HTTPStatus.GATEWAY_TIMEOUT: Meaning.SLOW,
}
"""What a status means when the words don't say more; any other status is BROKEN."""

_PAGES = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
"""With these, a page is not the provider's: a firewall or another website sent it, whatever the key and the model."""

_NO_ROUTE = frozenset({"", "not found", "404 page not found", "file not found"})
"""What servers say with 404 of an address that they do not serve; one without the model names it."""

_ALL = [(words, meaning) for meaning, rows in WORDS.items() for _, words in rows]
_CODES = {words: meaning for words, meaning in _ALL if re.fullmatch(r"\w+", words)}
_SENTENCES = {words: meaning for words, meaning in _ALL if words not in _CODES}


def map_error(status: int | None, body: object, headers: Mapping[str, str] | None) -> BaioError:
    """The domain's error for a refusal, from an error response or from an error inside a stream or a body.

    ``body`` is the decoded JSON: the whole body, its ``error``, a list with one of these, or only text. In a stream,
    status and headers are None. What is more specific counts more: a code in the details, then the message, then code
    and type, then a number in the body, then the status.
    """
    levels = _levels(body)
    meaning = _meaning(status, levels)
    if meaning is Meaning.PROMPT and status is None and _sounds_too_long(levels):
        meaning = Meaning.TOO_LONG
    wait = retry_after(headers)
    if wait is None:
        wait = next((seconds for level in levels for seconds in _waits(level)), None)
    return meaning.kind(meaning.detail, retry_after=wait if meaning.kind is ProviderRateLimited else None)


def error_in(body: bytes) -> BaioError | None:
    """The error of a body that came with status 200, None if there is none."""
    decoded = _decoded(body)
    levels = _levels(decoded)
    refused = len(levels) > 1 or any(isinstance(level, dict) and level.get("object") == "error" for level in levels)
    if not refused and isinstance(decoded, dict) and not (decoded.get("choices") or decoded.get("content")):
        refused = any(_texts(decoded))  # there is no answer, but something is said
    return map_error(None, decoded, None) if refused else None


def _levels(body: object) -> list[object]:
    """The error and what it is in, the innermost first: ``[{"error": {...}}]`` has two levels."""
    levels: list[object] = []
    while len(levels) < 4:
        if isinstance(body, list):
            body = body[0] if body else None
        levels.insert(0, body)
        inner = _inner(body)
        if not inner:
            break
        body = inner
    return levels


def _inner(body: object) -> object:
    """The error in a body, or MiniMax's status, which its answers have, too: 0 means that nothing is wrong."""
    if not isinstance(body, dict):
        return None
    status = body.get("base_resp")
    return body.get("error") or (status if isinstance(status, dict) and status.get("status_code") else None)


def _meaning(status: int | None, levels: list[object]) -> Meaning:
    message = _message(levels)
    codes = [code for level in levels for code in _codes(level)]
    numbers = [int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)]
    if status == HTTPStatus.NOT_FOUND and message.strip(" .\r\n") in _NO_ROUTE:
        return Meaning.ADDRESS
    found = [
        *(_CODES.get(code) for level in levels for code in _detail_codes(level)),
        *(meaning for words, meaning in _SENTENCES.items() if words in message),
        *(_CODES.get(code) for code in codes),
        *(STATUSES.get(number, Meaning.BROKEN) for number in numbers),
        Meaning.BROKEN if status in _PAGES and _is_page(levels[0]) else STATUSES.get(status or 0),
    ]
    return next((meaning for meaning in found if meaning is not None), Meaning.BROKEN)


def _message(levels: list[object]) -> str:
    return " ".join(text for level in levels for text in _texts(level))[:MAX_MESSAGE_LENGTH].lower()


_TOO_LONG = re.compile(
    r"\b(?:prompt|inputs?|messages?|conversation|context|tokens?|request|query)\b[^\n]{0,100}?"
    r"\b(?:too long|too large|too many|exceed(?:s|ed|ing)?|(?:longer|larger|greater|more) than)\b"
    r"|\btoo many (?:input )?tokens\b"
)
_OF_LENGTH = re.compile(r"\b(?:tokens?|lengths?|long|longer|context)\b")


def _sounds_too_long(levels: list[object]) -> bool:
    """Whether a refusal that means no more than "not this request" is about its length, in words that nobody listed."""
    message = _message(levels)
    return bool(_TOO_LONG.search(message) and _OF_LENGTH.search(message))


def _is_page(body: object) -> bool:
    return isinstance(body, str) and body.lstrip().startswith("<")


def _waits(level: object) -> Iterator[float]:
    """How many seconds to wait, where a body says so: in a field, as Google's ``RetryInfo``, or in words."""
    details = level.get("details") if isinstance(level, dict) else None
    for each in (level, *(details if isinstance(details, list) else ())):
        if isinstance(each, dict):
            for name in ("retry_after", "retry_after_seconds", "retryDelay"):
                said = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s?", str(each.get(name)), re.ASCII)
                if said:
                    yield min(float(said[1]), MAX_WAIT_SECONDS)
    for text in _texts(level):
        if told := _WAIT.search(text.lower()):  # OpenAI, Groq and Gemini: "Please try again in 1m6.5s."
            hours, minutes, seconds, milliseconds = (float(part or 0) for part in told.groups())
            yield min(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000, MAX_WAIT_SECONDS)


_WAIT = re.compile(
    r"\b(?:try again|retry) in (?=\d)(?:(\d{1,4})h)?(?:(\d{1,4})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)s)?"
    r"(?:(\d{1,8}(?:\.\d{1,9})?)ms)?(?!\w)",
    re.ASCII,
)


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    """The texts in which a server says what is wrong, but not those in which it quotes the request."""
    if isinstance(value, str):
        yield value[:MAX_MESSAGE_LENGTH]
    elif isinstance(value, dict) and depth < 4:
        for name in ("message", "msg", "status_msg", "detail", "errors", "metadata", "raw"):
            yield from _texts(value.get(name), depth + 1)
        if depth:  # at the top, it is a level of its own
            yield from _texts(value.get("error"), depth + 1)
    elif isinstance(value, list) and depth < 4:
        for each in value[:4]:
            yield from _texts(each, depth + 1)


def _codes(level: object) -> Iterator[str]:
    if isinstance(level, dict):
        for name in ("code", "type", "error_type", "status", "http_status_code", "statusCode"):
            value = level.get(name)
            if isinstance(value, str | int) and value is not True:
                yield str(value)[:64].lower()


def _detail_codes(level: object) -> Iterator[str]:
    """Anthropic's ``error_code`` and Google's ``reason``, which stand in the details."""
    details = level.get("details") if isinstance(level, dict) else None
    for each in details if isinstance(details, list) else [details]:
        if isinstance(each, dict):
            for name in ("error_code", "reason"):
                if isinstance(code := each.get(name), str):
                    yield code.lower()


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    provider: str,
    sent: Mapping[str, str] = MappingProxyType({}),
) -> BaioError:
    """The domain's error for an error response, logged without any of the provider's own words.

    ``headers`` ignores case. ``body`` can be the beginning of a longer one. ``sent`` has the parameters of the request,
    by the names that the server knows: a refusal that means nothing else, and names one, is ParametersRefused.
    """
    decoded = _decoded(body)
    error = _levels(decoded)[0]
    codes = (error.get("code"), error.get("type")) if isinstance(error, dict) else ()
    code = next((str(code) for code in codes if safe_code(str(code)) and code is not None), None)
    request_id = safe_code(headers.get("x-request-id")) or safe_code(headers.get("request-id"))
    said = {"provider": provider, "status": status, "code": code, "provider_request_id": request_id}
    logger.info("provider refused", extra=said)
    error = map_error(status, decoded, headers)
    if type(error) is not PromptRefused:
        return error
    if (named := _refused_parameter(decoded, sent)) is not None:
        return ParametersRefused(parameters=named)
    return PromptTooLong() if _sounds_too_long(_levels(decoded)) else error


def _refused_parameter(body: object, sent: Mapping[str, str]) -> str | None:
    """The parameter that an error names: in ``param``, or, the last of several, in its message.

    Anthropic refuses two together. The last one is left out then, ``top_p``, as Anthropic recommends.
    """
    levels = _levels(body)
    for level in levels:
        param = level.get("param") if isinstance(level, dict) else None
        if isinstance(param, str) and param in sent:
            return sent[param]
    message = " ".join([*(text for level in levels for text in _texts(level)), *_places(levels[-1])])
    words = set(re.findall(r"[a-z_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", message[:MAX_MESSAGE_LENGTH]).lower()))
    return next((name for told, name in reversed(list(sent.items())) if told in words), None)


def _places(body: object) -> Iterator[str]:
    """Where Pydantic says that something is wrong, as in Mistral's and FastAPI's ``detail``."""
    details = body.get("detail") if isinstance(body, dict) else None
    for each in details[:4] if isinstance(details, list) else ():
        place = each.get("loc") if isinstance(each, dict) else None
        yield from (part for part in (place if isinstance(place, list) else ())[:8] if isinstance(part, str))


def translate_error(error: Exception, provider: str) -> BaioError:
    """The domain's error for a request that failed, logged without any of the provider's own words.

    ``error`` is the HTTP client's, or an SDK's. The SDKs of OpenAI and Anthropic come from the same generator: an error
    response has a ``response``.
    """
    response = getattr(error, "response", None)
    if isinstance(response, httpx2.Response):
        return refusal(response.status_code, response.headers, response.content, provider)
    causes = failure(error)
    if causes["why"] == "timeout":
        logger.info("provider too slow", extra={"provider": provider, **causes})
        return ProviderTooSlow("Connecting to the provider took too long.")
    logger.info("provider broken", extra={"provider": provider, **causes})
    return ProviderBroken("The provider can't be reached, or closed the connection early.")


def unreadable(error: Exception, detail: str) -> ProviderBroken:
    """ProviderBroken with this detail, after logging what could not be read: the kind of error and the field."""
    logger.info("provider broken", extra=failure(error))
    return ProviderBroken(detail)


_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns"),
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ClientHttpProxyError, "proxy"),
    (aiohttp.ClientProxyConnectionError, "proxy"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (aiohttp.ServerDisconnectedError, "reset"),
    (aiohttp.ClientPayloadError, "reset"),
    (TimeoutError, "timeout"),
    (UnicodeError, "encoding"),
    (httpx2.RemoteProtocolError, "encoding"),
    (msgspec.ValidationError, "field"),
    (msgspec.DecodeError, "json"),
    (json.JSONDecodeError, "json"),
    (RecursionError, "json"),
    (OSError, "network"),
)
"""What an exception in the chain of causes says about a failure; the first line that fits counts."""


def failure(error: BaseException) -> dict[str, str]:
    """Why a request failed, for the log: the kind of failure, the exception's class, and the errno or the field.

    Nothing else of the exception is logged: its text can contain the key, the prompt, or the provider's words.
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        # aiohttp wraps the errors of the operating system and of OpenSSL.
        wrapped = (getattr(cause, name, None) for name in ("os_error", "certificate_error"))
        chain = [*(each for each in wrapped if isinstance(each, Exception)), cause, *chain]
        cause = cause.__cause__
    found = ((why, each) for kind, why in _FAILURES for each in chain if isinstance(each, kind))
    why, cause = next(found, ("other", error))
    said = {"why": why, "cause": type(cause).__name__}
    if number := next((name for each in chain if (name := _errno(each))), None):
        said["errno"] = number
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        said["status"] = str(cause.status)
    if isinstance(cause, msgspec.ValidationError) and (field := re.search(r" - at `([$.\w\[\]]+)`$", str(cause))):
        said["field"] = field[1]
    return said


def _errno(error: BaseException) -> str | None:
    """The name of the number with which the operating system, the resolver or OpenSSL reports this error."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "reason", None)
    if not isinstance(error, OSError) or not error.errno:
        return None
    names = _RESOLVER_ERRORS if isinstance(error, socket.gaierror) else errno.errorcode
    return names.get(error.errno, str(error.errno))


_RESOLVER_ERRORS = {number: name for name, number in vars(socket).items() if name.startswith("EAI_")}


def _decoded(body: bytes) -> Any:  # noqa: ANN401 - whatever the provider sent
    """The body's JSON, or else its text."""
    try:
        return json.loads(body)  # unlike msgspec, it reads half a surrogate pair, and numbers of any size
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def safe_code(value: object) -> str | None:
    """The value if it looks like a machine-readable code, else None: free text could contain anything."""
    safe = isinstance(value, str) and len(value) <= 64 and value.replace("_", "").replace("-", "").isalnum()
    return str(value) if safe else None


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """The ``Retry-After`` header in seconds, or OpenAI's finer one, at most a day; None if neither is valid."""
    if headers is None:
        return None
    if re.fullmatch(r"\d{1,11}(?:\.\d{1,9})?", finer := headers.get("retry-after-ms", ""), re.ASCII):
        return min(float(finer) / 1000, MAX_WAIT_SECONDS)
    value = headers.get("retry-after", "")
    try:
        seconds = (
            float(value)
            if value.replace(".", "", 1).isdecimal()
            else parsedate_to_datetime(value).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS)

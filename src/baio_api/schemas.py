"""The JSON of requests and responses: exactly the keys that clients rely on, in their order (R2).

Structs check shape; the domain checks meaning. ``examples`` are those of the OpenAPI document, by name.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from baio_api.bodies import Body
from baio_domain.entities import (
    AnswerState,
    CallState,
    InputSource,
    Role,
    ToolCall,
    account_problems,
    content_problems,
    key_problems,
    refuse,
    refuse_fixed,
    title_problems,
)
from baio_domain.errors import FieldError
from baio_domain.tool_records import line_of
from baio_domain.tools import ToolSpec

Id = Annotated[int, Meta(extra_json_schema={"format": "int64", "minimum": 1, "maximum": 2**63 - 1})]
"""An id in a response."""

SentId = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, extra_json_schema={"format": "int64"})]
"""An id in a request: anything that a database can hold. Ids below 1 are nobody's, so they are not found."""

Count = Annotated[int, Meta(extra_json_schema={"format": "int64", "minimum": 0})]
"""A number of tokens, messages or answers."""

Time = Annotated[datetime, Meta(tz=True)]
"""A time with its offset, which is UTC. Without ``tz`` the OpenAPI document would not have its format."""

Examples = dict[str, Any]

_PASSWORD = "oleSterktPassord123"  # noqa: S105 - an example
_CODE = "492039"
_SYSTEM_MESSAGE = {
    "role": "system",
    "content": "You are BAiO, a chat bot who is an expert on biology and genomic data.",
    "created_at": "2024-01-15T10:00:00.000001Z",
}

# -- Accounts ----------------------------------------------------------------------------------------------------------


class UserInfo(msgspec.Struct, frozen=True):
    """An account, as its owner sees it."""

    examples: ClassVar[Examples] = {
        "contract": {
            "first_name": "Ole",
            "last_name": "Normann",
            "username": "olenor",
            "email": "ole.normann@example.no",
            "country": "Norway",
            "affiliation": "University of Bergen",
            "position": "scientist",
            "field_of_study": "AI researcher",
        }
    }

    first_name: str
    last_name: str
    username: str
    email: str
    country: str
    affiliation: str
    position: str
    field_of_study: str


class RegisterRequest(Body, frozen=True):
    """A registration. The last five fields may be missing; ``invitation`` is a code, where the server requires one."""

    examples: ClassVar[Examples] = {"contract": {**UserInfo.examples["contract"], "password": _PASSWORD}}

    nonblank_fields: ClassVar = frozenset({"first_name", "last_name", "username", "email", "password"})

    first_name: str
    last_name: str
    username: str
    email: str
    password: str
    country: str = ""
    affiliation: str = ""
    position: str = ""
    field_of_study: str = ""
    invitation: str | None = None

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules for accounts, except those that need the database or the list of common passwords."""
        yield from account_problems({name: text for name, text in fields.items() if name != "invitation"}, frozenset())


class ProfileInfo(msgspec.Struct, frozen=True):
    """What users say about themselves."""

    examples: ClassVar[Examples] = {
        "contract": {
            "first_name": "Ole",
            "last_name": "Normann",
            "country": "Norway",
            "affiliation": "University of Bergen",
            "position": "scientist",
            "field_of_study": "AI researcher",
        }
    }

    first_name: str
    last_name: str
    country: str
    affiliation: str
    position: str
    field_of_study: str


class UpdateInfoRequest(Body, frozen=True):
    """Changes to the profile. Fields that are missing stay as they are."""

    examples: ClassVar[Examples] = {**ProfileInfo.examples}

    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET
    country: str | UnsetType = UNSET
    affiliation: str | UnsetType = UNSET
    position: str | UnsetType = UNSET
    field_of_study: str | UnsetType = UNSET

    @classmethod
    def precheck(cls, document: Mapping[str, Any]) -> None:
        """Refuse credentials: changing them needs a second factor and another endpoint."""
        refuse_fixed(document)

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules for accounts."""
        yield from account_problems(fields, frozenset())


class AuthRequest(Body, frozen=True):
    """A sign-in. ``code`` is required if two-factor authentication is on."""

    examples: ClassVar[Examples] = {
        "contract": {"username": "olenor", "password": _PASSWORD},
        "withTwoFactor": {"username": "olenor", "password": _PASSWORD, "code": _CODE},
    }

    username: str
    password: str
    code: str | None = None


class Tokens(msgspec.Struct, frozen=True):
    """The tokens of a new session."""

    examples: ClassVar[Examples] = {"contract": {"refresh": "%REFRESH_TOKEN%", "access": "%ACCESS_TOKEN%"}}

    refresh: str
    access: str


class RefreshRequest(Body, frozen=True):
    """A refresh token."""

    examples: ClassVar[Examples] = {"contract": {"refresh": "%REFRESH_TOKEN%"}}

    refresh: str


class AccessToken(msgspec.Struct, frozen=True):
    """A new access token."""

    examples: ClassVar[Examples] = {"contract": {"access": "%NEW_ACCESS_TOKEN%"}}

    access: str


class LogoutRequest(Body, frozen=True):
    """The refresh token of the session to end."""

    examples: ClassVar[Examples] = {"contract": {"refresh": "%REFRESH_TOKEN%"}}

    refresh: str


class SessionInfo(msgspec.Struct, frozen=True):
    """A session. ``current`` is true for the one that sends the request."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 12,
            "created_at": "2024-01-15T10:00:00.000001Z",
            "last_used_at": "2024-01-15T10:45:00.000001Z",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            "current": True,
        }
    }

    id: Id
    created_at: Time
    last_used_at: Time
    user_agent: str
    current: bool


class EnrollTwoFactorRequest(Body, frozen=True):
    """The account's password."""

    examples: ClassVar[Examples] = {"contract": {"password": _PASSWORD}}

    password: str


class TwoFactorEnrolment(msgspec.Struct, frozen=True):
    """What an authenticator app needs: the secret in Base32, and its URI as text and as a QR code."""

    examples: ClassVar[Examples] = {
        "contract": {
            "secret": "%SECRET%",
            "otpauth_uri": "otpauth://totp/BAiO:olenor?secret=%SECRET%&issuer=BAiO&algorithm=SHA1&digits=6&period=30",
            "qr_svg": "<svg ...>",
        }
    }

    secret: str
    otpauth_uri: str
    qr_svg: str


class ConfirmTwoFactorRequest(Body, frozen=True):
    """The first code from the authenticator app."""

    examples: ClassVar[Examples] = {"contract": {"code": _CODE}}

    code: str


class RecoveryCodes(msgspec.Struct, frozen=True):
    """Ten codes. Each can replace a code from the app once."""

    examples: ClassVar[Examples] = {"contract": {"recovery_codes": ["%RECOVERY_CODE%"] * 10}}

    recovery_codes: list[str]


class DisableTwoFactorRequest(Body, frozen=True):
    """The password and a code."""

    examples: ClassVar[Examples] = {"contract": {"password": _PASSWORD, "code": _CODE}}

    password: str
    code: str


class TwoFactorInfo(msgspec.Struct, frozen=True):
    """Whether a sign-in needs a code, and how many recovery codes are unused."""

    examples: ClassVar[Examples] = {"contract": {"enabled": True, "recovery_codes_left": 9}}

    enabled: bool
    recovery_codes_left: Count


class UpdateCredentialsRequest(Body, frozen=True):
    """The current password, a code, and the changes. Fields that are missing stay as they are."""

    examples: ClassVar[Examples] = {
        "contract": {"current_password": _PASSWORD, "code": _CODE, "email": "ole.normann@example.no"}
    }

    current_password: str
    code: str = ""
    username: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    password: str | UnsetType = UNSET

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules for accounts, except those that need the database or the list of common passwords."""
        changes = {name: fields[name] for name in ("username", "email", "password") if name in fields}
        yield from account_problems(changes, frozenset())


class ResetPasswordRequest(Body, frozen=True):
    """The token of a link that the administrator has made, and the new password."""

    examples: ClassVar[Examples] = {"contract": {"token": "%TOKEN%", "password": _PASSWORD}}

    token: str
    password: str


class ValidateTokenRequest(Body, frozen=True):
    """An access token."""

    examples: ClassVar[Examples] = {"contract": {"token": "%ACCESS_TOKEN%"}}

    token: str


class TokenVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether an access token is valid, and if not, why."""

    examples: ClassVar[Examples] = {"contract": {"valid": True}}

    valid: bool
    error: str = ""


# -- Conversations -----------------------------------------------------------------------------------------------------


class MessageInfo(msgspec.Struct, frozen=True):
    """A message. ``role`` is system, user or baio."""

    examples: ClassVar[Examples] = {"system": _SYSTEM_MESSAGE}

    role: Role
    content: str
    created_at: Time


class ConversationInfo(msgspec.Struct, frozen=True):
    """A conversation with its messages, in the order they were written."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 1,
            "title": "Research Discussion",
            "messages": [
                _SYSTEM_MESSAGE,
                {
                    "role": "user",
                    "content": "What are the key aspects of AI in genomics?",
                    "created_at": "2024-01-15T10:01:00.000001Z",
                },
                {
                    "role": "baio",
                    "content": "Key aspects include predictive analysis, data integration, etc.",
                    "created_at": "2024-01-15T10:02:00.000001Z",
                },
            ],
        },
        "new": {"id": 3, "title": "New Research Topic", "messages": [_SYSTEM_MESSAGE]},
    }

    id: Id
    title: str
    messages: list[MessageInfo]


class AnsweredMessageInfo(MessageInfo, frozen=True):
    """A message, and what is known of the answer whose text it is. ``answer_id`` and ``state`` are null for others.

    A running answer is a message with its text so far. ``reason`` says why an answer did not end well.
    """

    answer_id: Id | None
    state: AnswerState | None
    reason: str | None


class AnsweredConversation(msgspec.Struct, frozen=True):
    """A conversation with its messages and the records of its answers."""

    examples: ClassVar[Examples] = {
        "contract": ConversationInfo.examples["contract"],  # of a request without answers
        "answers": {
            **ConversationInfo.examples["contract"],
            "messages": [
                {**message, "answer_id": answer_id, "state": state, "reason": None}
                for message, answer_id, state in zip(
                    ConversationInfo.examples["contract"]["messages"],
                    (None, None, 7),
                    (None, None, "running"),
                    strict=True,
                )
            ],
        },
    }

    id: Id
    title: str
    messages: list[AnsweredMessageInfo]


class ConversationListItem(msgspec.Struct, frozen=True):
    """A conversation in a list."""

    examples: ClassVar[Examples] = {
        "contract": {"id": 1, "title": "Research Discussion", "created_at": "2024-01-15T10:00:00.000001Z"},
        "older": {"id": 2, "title": "Project Meeting", "created_at": "2024-01-14T11:30:00.000001Z"},
    }

    id: Id
    title: str
    created_at: Time


class CreateConversationRequest(Body, frozen=True):
    """A new conversation. The body may be empty."""

    examples: ClassVar[Examples] = {"contract": {"title": "New Research Topic"}}

    title: str = ""

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for titles."""
        yield from title_problems(fields.get("title", ""))


class RenameConversationRequest(CreateConversationRequest, frozen=True, kw_only=True):
    """The conversation to rename, and its new title."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1, "title": "Updated Discussion"}}

    conversation_id: SentId
    title: str


class DeleteConversationRequest(Body, frozen=True):
    """The conversation to delete."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1}}

    conversation_id: SentId


class SendMessageRequest(Body, frozen=True):
    """A question. ``model`` is the identifier or the display name of a model of the key's provider."""

    examples: ClassVar[Examples] = {
        "contract": {
            "conversation_id": 1,
            "apikey_nickname": "OpenAI Key",
            "content": "What are the applications of AI in genomics?",
            "model": "gpt-4o-mini",
        }
    }

    nonblank_fields: ClassVar = frozenset({"content"})

    conversation_id: SentId
    apikey_nickname: str
    content: str
    model: str

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for questions."""
        if "content" in fields:
            yield from content_problems(fields["content"])


class RegenerateAnswerRequest(Body, frozen=True):
    """The conversation whose last question to ask again, and the key and model to use."""

    examples: ClassVar[Examples] = {
        "contract": {"conversation_id": 1, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    }

    conversation_id: SentId
    apikey_nickname: str
    model: str


class StopAnswerRequest(Body, frozen=True):
    """The conversation whose running answer to stop."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1}}

    conversation_id: SentId


class StoppedAnswer(msgspec.Struct, frozen=True):
    """The answer and its final state. It may have ended by itself before it was stopped."""

    examples: ClassVar[Examples] = {"contract": {"answer_id": 7, "state": "stopped"}}

    answer_id: Id
    state: AnswerState


class AnswerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an answer was made. What is unknown is null.

    Only the record of an answer whose model was seen thinking has ``thinking_seconds``, and only one whose provider
    counted the tokens of it has ``thinking_tokens``, which are among the completion tokens.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 7,
            "state": "truncated",
            "requested_model": "gpt-4o-mini",
            "model": "gpt-4o-mini-2024-07-18",
            "finish_reason": "length",
            "prompt_tokens": 42,
            "completion_tokens": 120,
            "started_at": "2024-01-15T10:01:00.000001Z",
            "ended_at": "2024-01-15T10:02:00.000001Z",
            "reason": "longest-answer",
        }
    }

    id: Id
    state: AnswerState
    requested_model: str
    model: str | None
    finish_reason: str | None
    prompt_tokens: Count | None
    completion_tokens: Count | None
    started_at: Time
    ended_at: Time | None
    reason: str | None
    thinking_seconds: float | None = None
    thinking_tokens: Count | None = None


class AnswerRecordWithContext(AnswerRecord, frozen=True, kw_only=True):
    """How an answer was made, and how many of the conversation's messages its model was not sent."""

    examples: ClassVar[Examples] = {"contract": {**AnswerRecord.examples["contract"], "left_out": 0}}

    left_out: Count


class Delta(msgspec.Struct, frozen=True):
    """The data of a ``delta`` event: the next piece of the answer's text."""

    text: str


class Thoughts(msgspec.Struct, frozen=True):
    """The data of a ``thinking`` event."""

    text: str


class UsageInfo(msgspec.Struct, frozen=True):
    """Tokens, as counted by the provider."""

    prompt_tokens: Count
    completion_tokens: Count


class End(msgspec.Struct, frozen=True):
    """The data of an ``end`` event: how the answer ended. The stream ends after it."""

    state: AnswerState
    finish_reason: str | None
    usage: UsageInfo | None


# -- Tools -------------------------------------------------------------------------------------------------------------

JSONObject = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
"""An object of JSON that is encoded already."""

_SHA256 = "a3b1e54c60d5a0c6f2d8a1f7a3f1bb2f3b57d1c3c7b9a7f0a1d2c3b4e5f60718"


class ToolInfo(msgspec.Struct, frozen=True):
    """An installed tool. ``parameters`` is the JSON Schema of its arguments, ``library`` what computes, or empty."""

    examples: ClassVar[Examples] = {
        "contract": {
            "name": "reverse_complement",
            "version": "1",
            "description": "The other strand of a DNA or RNA sequence, from its 5' end.",
            "definition": "IUPAC complements in reverse order; RNA stays RNA.",
            "parameters": {
                "type": "object",
                "properties": {"sequence": {"type": "string", "description": "Letters of IUPAC's code, or FASTA."}},
                "required": ["sequence"],
            },
            "library": "",
        }
    }

    name: str
    version: str
    description: str
    definition: str
    parameters: dict[str, Any]
    library: str

    @classmethod
    def of(cls, spec: ToolSpec) -> "ToolInfo":
        """The tool as clients get it."""
        return cls(spec.name, str(spec.version), spec.description, spec.definition, dict(spec.parameters), spec.library)


class RunToolRequest(Body, frozen=True):
    """A call of a tool. Its record belongs to the conversation, if one is named."""

    examples: ClassVar[Examples] = {
        "contract": {"tool": "gc_content", "arguments": {"sequence": ">pUC19\nACGTTGCA"}},
        "inConversation": {"tool": "gc_content", "arguments": {"sequence": "ACGT"}, "conversation_id": 1},
    }

    tool: str
    arguments: dict[str, Any]
    conversation_id: SentId | None = None


class InputOriginInfo(msgspec.Struct, frozen=True):
    """Where an input comes from.

    ``request``: the user gave it with the call. ``message``: it is in a message of the user, ``id``, from character
    ``start`` to ``end``. ``call``: it is in the result of the call ``id``. ``model``: nobody gave it, so the model
    wrote it. What does not apply is null.
    """

    source: InputSource
    id: Id | None
    start: Count | None
    end: Count | None


class CallInputInfo(msgspec.Struct, frozen=True):
    """A sequence that a call was given. Length and SHA-256 are those of its cleaned upper-case letters."""

    argument: str
    name: str | None
    length: Count
    sha256: str
    cleaned: list[str]
    origin: InputOriginInfo


class ToolCallRecord(msgspec.Struct, frozen=True):
    """The record of a tool's call. What a call does not have (yet) is null, and a text that it does not have is empty.

    ``result_sha256`` is that of the result as JSON with sorted keys, without spaces, in UTF-8. ``shown`` is what a
    model got to read. ``line`` is BAiO's line about a call that is done. It stands in the answer's text if ``length``
    is not 0: ``length`` characters, from ``offset`` on. ``quoted`` says whether the model's own text repeats the value.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 41,
            "conversation_id": 1,
            "answer_id": 7,
            "tool": "gc_content",
            "version": "1",
            "library": "Biopython 1.88",
            "definition": "(G + C + S) / (A + C + G + T + U + S + W).",
            "arguments": {"ambiguous": "remove", "sequence": ">pUC19\nACGTTGCA", "step": 4, "window": 4},
            "inputs": [
                {
                    "argument": "sequence",
                    "name": "pUC19",
                    "length": 8,
                    "sha256": _SHA256,
                    "cleaned": ["header", "line-breaks"],
                    "origin": {"source": "message", "id": 12, "start": 19, "end": 27},
                }
            ],
            "result": {"counted": 8, "gc": 4, "gc_percent": 50.0, "length": 8},
            "result_sha256": _SHA256,
            "shown": '{"counted":8,"gc":4,"gc_percent":50.0,"length":8}',
            "state": "done",
            "error": "",
            "line": "> GC content of pUC19 (8 nt): **50.00 %** (4 of 8). gc_content 1, Biopython 1.88 [call 41]",
            "offset": 0,
            "length": 89,
            "quoted": False,
            "started_at": "2024-01-15T10:01:00.000001Z",
            "ended_at": "2024-01-15T10:01:00.010001Z",
        }
    }

    id: Id
    conversation_id: Id | None
    answer_id: Id | None
    tool: str
    version: str
    library: str
    definition: str
    arguments: JSONObject | None
    inputs: list[CallInputInfo]
    result: JSONObject | None
    result_sha256: str | None
    shown: str | None
    state: CallState
    error: str
    line: str
    offset: Count
    length: Count
    quoted: bool
    started_at: Time
    ended_at: Time | None

    @classmethod
    def of(cls, call: ToolCall) -> "ToolCallRecord":
        """The record as clients get it."""
        values = {name: getattr(call, name) for name in cls.__struct_fields__}
        values |= {
            "arguments": None if call.arguments is None else msgspec.Raw(call.arguments),
            "inputs": msgspec.convert(call.inputs, list[CallInputInfo], from_attributes=True),
            "result": None if call.result is None else msgspec.Raw(call.result),
            "error": call.error or "",
            "line": line_of(call) if call.state is CallState.DONE else "",
        }
        return cls(**values)


class ToolCallRequest(Body, frozen=True):
    """The call."""

    examples: ClassVar[Examples] = {"contract": {"id": 41}}

    id: SentId


class VerifiedToolCall(msgspec.Struct, frozen=True):
    """Whether the call has the same result when it is computed again, and what computed it now."""

    examples: ClassVar[Examples] = {"contract": {"equal": True, "result_sha256": _SHA256, "library": "Biopython 1.88"}}

    equal: bool
    result_sha256: str
    library: str


# -- Providers and keys ------------------------------------------------------------------------------------------------


class ModelInfo(msgspec.Struct, frozen=True):
    """A model's id and display name."""

    id: Id
    name: str


class ProviderInfo(msgspec.Struct, frozen=True):
    """A provider and the models that it offers."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 1,
            "name": "OpenAI",
            "models": [
                {"id": 1, "name": "GPT-4o"},
                {"id": 2, "name": "GPT-4o mini"},
                {"id": 3, "name": "OpenAI o1-preview"},
                {"id": 4, "name": "OpenAI o1-mini"},
            ],
        }
    }

    id: Id
    name: str
    models: list[ModelInfo]


class ApiKeyInfo(msgspec.Struct, frozen=True):
    """A stored API key, without the key itself."""

    examples: ClassVar[Examples] = {
        "contract": {
            "nickname": "OpenAI Key",
            "provider": ProviderInfo.examples["contract"],
            "created_at": "2024-10-27T14:23:35.321000Z",
        }
    }

    nickname: str
    provider: ProviderInfo
    created_at: Time


class AddApiKeyRequest(Body, frozen=True):
    """A key to store, as ``key``, ``nickname`` and ``provider``, or as ``apiKey``, ``name`` and ``apiProvider``."""

    examples: ClassVar[Examples] = {
        "contract": {"key": "sk-...", "nickname": "OpenAI Key"},
        "webClient": {"name": "OpenAI Key", "apiProvider": "1", "apiKey": "sk-..."},
    }

    key: str | UnsetType = UNSET
    nickname: str | UnsetType = UNSET
    provider: int | str | UnsetType | None = UNSET
    apiKey: str | UnsetType = UNSET  # noqa: N815 - the deployed web client's spelling
    name: str | UnsetType = UNSET
    apiProvider: int | str | UnsetType | None = UNSET  # noqa: N815 - as apiKey

    @classmethod
    def precheck(cls, document: Mapping[str, Any]) -> None:
        """Name the key and the nickname as missing. No field is required, because each has two names."""
        if not document:
            refuse(key_problems("", ""))

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules for keys and nicknames, under the names that the client has used."""
        key, nickname = (
            next((name for name in names if name in fields), "") for names in (("key", "apiKey"), ("nickname", "name"))
        )
        judged = {"key": key, "nickname": nickname}
        for problem in key_problems(fields.get(key, ""), fields.get(nickname, "")):
            if judged[problem.field]:
                yield FieldError(judged[problem.field], problem.message)


class AddedApiKey(msgspec.Struct, frozen=True):
    """The nickname of the stored key, and its owner's id."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key", "user": 1}}

    nickname: str
    user: Id


class DeleteApiKeyRequest(Body, frozen=True):
    """The key to delete."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key"}}

    nickname: str


class RenameApiKeyRequest(Body, frozen=True):
    """The key to rename, and its new nickname."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key", "new_nickname": "Lab Key"}}

    nickname: str
    new_nickname: str


class TestApiKeyRequest(Body, frozen=True):
    """The key to test with its provider."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key"}}

    nickname: str


class CheckedApiKey(msgspec.Struct, frozen=True):
    """Whether the provider accepts a key. ``valid`` is null if that could not be determined."""

    examples: ClassVar[Examples] = {
        "contract": {"nickname": "OpenAI Key", "valid": True, "reason": "OpenAI accepts the key."}
    }

    nickname: str
    valid: bool | None
    reason: str


class UsageOfDay(msgspec.Struct, frozen=True):
    """The tokens used by the caller's own answers from one model on one day."""

    examples: ClassVar[Examples] = {
        "contract": {
            "date": "2026-01-31",
            "provider": "OpenAI",
            "model": "gpt-4o-mini",
            "answers": 12,
            "prompt_tokens": 5210,
            "completion_tokens": 3904,
            "estimated": False,
        }
    }

    date: date
    provider: str
    model: str
    answers: Count
    prompt_tokens: Count
    completion_tokens: Count
    estimated: bool


# -- Leaving -----------------------------------------------------------------------------------------------------------


class ExportedAccount(UserInfo, frozen=True):
    """An account as it is stored, except for the password's hash."""

    examples: ClassVar[Examples] = {
        "contract": {**UserInfo.examples["contract"], "id": 1, "created_at": "2024-01-15T09:30:00.000001Z"}
    }

    id: Id
    created_at: Time


class ExportedSession(msgspec.Struct, frozen=True):
    """A session."""

    examples: ClassVar[Examples] = {
        "contract": {name: value for name, value in SessionInfo.examples["contract"].items() if name != "current"}
    }

    id: Id
    created_at: Time
    last_used_at: Time
    user_agent: str


class ExportedAct(msgspec.Struct, frozen=True):
    """What was done to the account, when, and from where. ``operator`` is empty if the owner did it."""

    examples: ClassVar[Examples] = {
        "contract": {
            "at": "2024-01-15T10:00:00.000001Z",
            "act": "signed-in",
            "operator": "",
            "address": "192.0.2.7",
            "request_id": "5f0c9a1e2b7d4c3f8a6e",
            "note": "",
        }
    }

    at: Time
    act: str
    operator: str
    address: str
    request_id: str
    note: str


class ExportedKey(msgspec.Struct, frozen=True):
    """A stored API key, by its nickname and provider."""

    examples: ClassVar[Examples] = {
        "contract": {"nickname": "OpenAI Key", "provider": "OpenAI", "created_at": "2024-10-27T14:23:35.321000Z"}
    }

    nickname: str
    provider: str
    created_at: Time


class ExportedText(msgspec.Struct, frozen=True):
    """The text of an answer that is in no message: a later answer replaced it, or it is still being written."""

    examples: ClassVar[Examples] = {"contract": {"answer_id": 6, "content": "Key aspects include"}}

    answer_id: Id
    content: str


class ExportedIdempotencyKey(msgspec.Struct, frozen=True):
    """An idempotency key that is remembered, and the id of what its request created."""

    examples: ClassVar[Examples] = {
        "contract": {"key": "6c1d0e5a", "result_id": 7, "created_at": "2024-01-15T10:01:00.000001Z"}
    }

    key: str
    result_id: Id
    created_at: Time


class ExportedConversation(msgspec.Struct, frozen=True):
    """A conversation with its messages, the records of its answers and of its tools' calls, and texts in no message."""

    examples: ClassVar[Examples] = {
        "contract": {
            **ConversationInfo.examples["contract"],
            "created_at": "2024-01-15T10:00:00.000001Z",
            "answers": [AnswerRecordWithContext.examples["contract"]],
            "kept_texts": [ExportedText.examples["contract"]],
            "tool_calls": [ToolCallRecord.examples["contract"]],
        }
    }

    id: Id
    title: str
    created_at: Time
    messages: list[MessageInfo]
    answers: list[AnswerRecordWithContext]
    kept_texts: list[ExportedText]
    tool_calls: list[ToolCallRecord]


class ExportedData(msgspec.Struct, frozen=True):
    """Everything that is stored about a user."""

    examples: ClassVar[Examples] = {
        "contract": {
            "account": ExportedAccount.examples["contract"],
            "two_factor_enabled_at": "2024-01-15T09:45:00.000001Z",
            "sessions": [ExportedSession.examples["contract"]],
            "api_keys": [ExportedKey.examples["contract"]],
            "conversations": [ExportedConversation.examples["contract"]],
            "audit": [ExportedAct.examples["contract"]],
            "idempotency_keys": [ExportedIdempotencyKey.examples["contract"]],
            "tool_calls": [ToolCallRecord.examples["contract"]],
        }
    }

    account: ExportedAccount
    two_factor_enabled_at: Time | None
    sessions: list[ExportedSession]
    api_keys: list[ExportedKey]
    conversations: list[ExportedConversation]
    audit: list[ExportedAct]
    idempotency_keys: list[ExportedIdempotencyKey]
    tool_calls: list[ToolCallRecord]


class DeleteAccountRequest(Body, frozen=True):
    """The account's password, and a code if two-factor authentication is on."""

    examples: ClassVar[Examples] = {
        "contract": {"password": _PASSWORD},
        "withTwoFactor": {"password": _PASSWORD, "code": _CODE},
    }

    password: str
    code: str | None = None


# -- Errors and health -------------------------------------------------------------------------------------------------


class BadField(msgspec.Struct, frozen=True):
    """A field that is not valid."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as defined by RFC 9457. ``errors`` is present for invalid input and names every bad field."""

    type: str
    title: str
    status: Annotated[int, Meta(extra_json_schema={"minimum": 400, "maximum": 599})]
    detail: str
    errors: list[BadField] | UnsetType = UNSET
    answer_id: Id | UnsetType = UNSET


class DeltaEvent(msgspec.Struct, frozen=True, tag_field="event", tag="delta"):
    """A piece of an answer. ``id`` is the offset after it: the ``Last-Event-ID`` to continue with."""

    id: Id
    data: Delta


class ThinkingEvent(msgspec.Struct, frozen=True, tag_field="event", tag="thinking"):
    """What the model thinks before and between pieces of its answer. It is not stored, and has no ``id``."""

    data: Thoughts


class EndEvent(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """The last event of an answer that is not cut."""

    data: End


class ErrorEvent(msgspec.Struct, frozen=True, tag_field="event", tag="error"):
    """The last event of an answer that is cut, or of a stream whose session ended."""

    data: Problem


AnswerEvent = DeltaEvent | ThinkingEvent | EndEvent | ErrorEvent
"""For the OpenAPI document. On the wire each is the fields of a server-sent event, with its ``data`` as JSON."""


class Health(msgspec.Struct, frozen=True):
    """Whether the service is alive, or ready."""

    examples: ClassVar[Examples] = {"contract": {"status": "ok"}}

    status: str

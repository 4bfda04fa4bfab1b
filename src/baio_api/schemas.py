"""The shapes on the wire: exactly the contract's keys, in its order. Meaning is the domain's."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from baio_api.bodies import Body
from baio_domain.entities import (
    AnswerState,
    Role,
    account_problems,
    content_problems,
    key_problems,
    refuse_fixed,
    title_problems,
)
from baio_domain.errors import FieldError

Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

# -- Accounts ----------------------------------------------------------------------------------------------------------


class UserInfo(msgspec.Struct, frozen=True):
    """An account, as its owner sees it."""

    first_name: str
    last_name: str
    username: str
    email: str
    country: str
    affiliation: str
    position: str
    field_of_study: str


class RegisterRequest(Body, frozen=True):
    """A registration. The last four may be missing or empty."""

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

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """As for a whole registration; what only the use case knows (who exists, common passwords) waits for it."""
        yield from account_problems(fields, frozenset())


class ProfileInfo(msgspec.Struct, frozen=True):
    """What a user says about themselves."""

    first_name: str
    last_name: str
    country: str
    affiliation: str
    position: str
    field_of_study: str


class UpdateInfoRequest(Body, frozen=True):
    """Changes to the profile; what is missing stays as it is."""

    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET
    country: str | UnsetType = UNSET
    affiliation: str | UnsetType = UNSET
    position: str | UnsetType = UNSET
    field_of_study: str | UnsetType = UNSET

    @classmethod
    def precheck(cls, document: Mapping[str, Any]) -> None:
        """Refuse what needs a second factor, whatever else is sent."""
        refuse_fixed(document)

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """As for a whole profile."""
        yield from account_problems(fields, frozenset())


class AuthRequest(Body, frozen=True):
    """A sign-in; ``code`` where two-factor authentication is on."""

    username: str
    password: str
    code: str | None = None


class Tokens(msgspec.Struct, frozen=True):
    """The tokens of a sign-in."""

    refresh: str
    access: str


class RefreshRequest(Body, frozen=True):
    """A refresh token."""

    refresh: str


class AccessToken(msgspec.Struct, frozen=True):
    """A new access token."""

    access: str


class LogoutRequest(Body, frozen=True):
    """The refresh token of the session to end."""

    refresh: str


class SessionInfo(msgspec.Struct, frozen=True):
    """A session; ``current`` is the one that asks."""

    id: int
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    current: bool


class EnrollTwoFactorRequest(Body, frozen=True):
    """The password, once more."""

    password: str


class TwoFactorEnrolment(msgspec.Struct, frozen=True):
    """What an authenticator app needs: the secret in Base32, and the URI with it as text and as a picture."""

    secret: str
    otpauth_uri: str
    qr_svg: str


class ConfirmTwoFactorRequest(Body, frozen=True):
    """The first code of the app."""

    code: str


class RecoveryCodes(msgspec.Struct, frozen=True):
    """Ten codes, each of which works once in place of one of the app's."""

    recovery_codes: list[str]


class DisableTwoFactorRequest(Body, frozen=True):
    """The password and a code."""

    password: str
    code: str


class TwoFactorInfo(msgspec.Struct, frozen=True):
    """Whether a sign-in needs a code, and how many recovery codes are unused."""

    enabled: bool
    recovery_codes_left: int


class UpdateCredentialsRequest(Body, frozen=True):
    """The current password, a code, and what to change; what is missing stays as it is."""

    current_password: str
    code: str = ""
    username: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    password: str | UnsetType = UNSET

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """As for a registration, but for what only the use case knows."""
        changes = {name: fields[name] for name in ("username", "email", "password") if name in fields}
        yield from account_problems(changes, frozenset())


class ResetPasswordRequest(Body, frozen=True):
    """The token of a link that the administrator has made, and the password to have."""

    token: str
    password: str


class ValidateTokenRequest(Body, frozen=True):
    """An access token."""

    token: str


class TokenVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether an access token holds, and why not."""

    valid: bool
    error: str = ""


# -- Conversations -----------------------------------------------------------------------------------------------------


class MessageInfo(msgspec.Struct, frozen=True):
    """One thing said; role is system, user or baio."""

    role: Role
    content: str
    created_at: datetime


class ConversationInfo(msgspec.Struct, frozen=True):
    """A conversation with its messages in the order they were written."""

    id: int
    title: str
    messages: list[MessageInfo]


class ConversationListItem(msgspec.Struct, frozen=True):
    """A conversation in a list."""

    id: int
    title: str
    created_at: datetime


class CreateConversationRequest(Body, frozen=True):
    """A new conversation; the body may be empty."""

    title: str = ""

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The title's length."""
        yield from title_problems(fields.get("title", ""))


class RenameConversationRequest(CreateConversationRequest, frozen=True, kw_only=True):
    """Another title."""

    conversation_id: Id
    title: str


class DeleteConversationRequest(Body, frozen=True):
    """Which conversation to delete."""

    conversation_id: Id


class SendMessageRequest(Body, frozen=True):
    """A question. ``model`` is an identifier or a display name of the key's provider."""

    nonblank_fields: ClassVar = frozenset({"content"})

    conversation_id: Id
    apikey_nickname: str
    content: str
    model: str

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The content's rule."""
        if "content" in fields:
            yield from content_problems(fields["content"])


class RegenerateAnswerRequest(Body, frozen=True):
    """Which conversation's last question to ask again, with which key and model."""

    conversation_id: Id
    apikey_nickname: str
    model: str


class StopAnswerRequest(Body, frozen=True):
    """In which conversation to stop the running answer."""

    conversation_id: Id


class StoppedAnswer(msgspec.Struct, frozen=True):
    """The answer and its final state: stopped, or how it had ended meanwhile."""

    answer_id: int
    state: AnswerState


class AnswerRecord(msgspec.Struct, frozen=True):
    """How an answer came about; null where something is not known."""

    id: int
    state: AnswerState
    requested_model: str
    model: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    started_at: datetime
    ended_at: datetime | None
    reason: str | None


class AnswerRecordWithContext(AnswerRecord, frozen=True):
    """How an answer came about, and how many messages of the conversation its model was not sent."""

    left_out: int


class Delta(msgspec.Struct, frozen=True):
    """The data of a ``delta`` event."""

    text: str


class UsageInfo(msgspec.Struct, frozen=True):
    """Tokens, as the provider counted them."""

    prompt_tokens: int
    completion_tokens: int


class End(msgspec.Struct, frozen=True):
    """The data of an ``end`` event."""

    state: AnswerState
    finish_reason: str | None
    usage: UsageInfo | None


# -- Providers and keys ------------------------------------------------------------------------------------------------


class ModelInfo(msgspec.Struct, frozen=True):
    """A model by id and display name."""

    id: int
    name: str


class ProviderInfo(msgspec.Struct, frozen=True):
    """A provider with the models that can be asked."""

    id: int
    name: str
    models: list[ModelInfo]


class ApiKeyInfo(msgspec.Struct, frozen=True):
    """A stored key, without the key."""

    nickname: str
    provider: ProviderInfo
    created_at: datetime


class AddApiKeyRequest(Body, frozen=True):
    """A key to store, as ``key``, ``nickname``, ``provider`` or as ``apiKey``, ``name``, ``apiProvider``."""

    key: str | UnsetType = UNSET
    nickname: str | UnsetType = UNSET
    provider: int | str | UnsetType | None = UNSET
    apiKey: str | UnsetType = UNSET  # noqa: N815 - the deployed web client's spelling
    name: str | UnsetType = UNSET
    apiProvider: int | str | UnsetType | None = UNSET  # noqa: N815 - as apiKey

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules of those parts that have the right shape, under the names they were sent by."""
        key, nickname = (
            next((name for name in names if name in fields), "") for names in (("key", "apiKey"), ("nickname", "name"))
        )
        judged = {"key": key, "nickname": nickname}
        for problem in key_problems(fields.get(key, ""), fields.get(nickname, "")):
            if judged[problem.field]:
                yield FieldError(judged[problem.field], problem.message)


class AddedApiKey(msgspec.Struct, frozen=True):
    """The nickname under which a key was stored, and whose it is."""

    nickname: str
    user: int


class DeleteApiKeyRequest(Body, frozen=True):
    """The key to delete."""

    nickname: str


class RenameApiKeyRequest(Body, frozen=True):
    """The key to rename, and the nickname it is to have."""

    nickname: str
    new_nickname: str


class TestApiKeyRequest(Body, frozen=True):
    """The key to ask its provider about."""

    nickname: str


class CheckedApiKey(msgspec.Struct, frozen=True):
    """What the provider thinks of a key; ``valid`` is null where that could not be found out."""

    nickname: str
    valid: bool | None
    reason: str


class UsageOfDay(msgspec.Struct, frozen=True):
    """What one's own answers of one day by one model cost, in tokens."""

    date: date
    provider: str
    model: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    estimated: bool


# -- Leaving -----------------------------------------------------------------------------------------------------------


class ExportedAccount(UserInfo, frozen=True):
    """An account as it is stored, but for the password's hash."""

    id: int
    created_at: datetime


class ExportedSession(msgspec.Struct, frozen=True):
    """A session."""

    id: int
    created_at: datetime
    last_used_at: datetime
    user_agent: str


class ExportedAct(msgspec.Struct, frozen=True):
    """What was done to the account, when, and from where; ``operator`` is empty where it was its owner."""

    at: datetime
    act: str
    operator: str
    address: str
    request_id: str
    note: str


class ExportedKey(msgspec.Struct, frozen=True):
    """A stored key by nickname and provider."""

    nickname: str
    provider: str
    created_at: datetime


class ExportedConversation(msgspec.Struct, frozen=True):
    """A conversation with all that was said in it, and how each answer came about."""

    id: int
    title: str
    created_at: datetime
    messages: list[MessageInfo]
    answers: list[AnswerRecordWithContext]


class ExportedData(msgspec.Struct, frozen=True):
    """Everything that is stored about one user."""

    account: ExportedAccount
    two_factor_enabled_at: datetime | None
    sessions: list[ExportedSession]
    api_keys: list[ExportedKey]
    conversations: list[ExportedConversation]
    audit: list[ExportedAct]


class DeleteAccountRequest(Body, frozen=True):
    """The password, once more, and a code where two-factor authentication is on."""

    password: str
    code: str | None = None


# -- Errors and health -------------------------------------------------------------------------------------------------


class BadField(msgspec.Struct, frozen=True):
    """One bad field of a request."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, after RFC 9457. ``errors`` is there for bad input and names every bad field."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[BadField] | UnsetType = UNSET
    answer_id: int | UnsetType = UNSET


class Health(msgspec.Struct, frozen=True):
    """Whether the service lives, or is ready."""

    status: str

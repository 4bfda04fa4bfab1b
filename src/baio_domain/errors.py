"""Every error that a caller can read, by kind.

    BaioError
    ├── InvalidInput            the caller can correct the request; names every bad field
    │   └── PromptRefused       the provider, or its model, refuses this question
    ├── NotAuthenticated        the caller is unknown
    ├── Forbidden               the caller is known, but not allowed to do this
    ├── NotFound                does not exist for this caller
    ├── Conflict                something else is in the way
    │   └── SecretUnreadable    stored, encrypted data can't be decrypted any more
    ├── TooMany                 too often or too many at once; says when to try again
    ├── Unavailable             this service cannot do it at the moment
    └── ProviderFailure         the model's provider failed
        ├── KeyRefused          it refuses the user's key
        ├── ProviderBroken      it is down, or its answer can't be read
        └── ProviderTooSlow     it exceeded a deadline

A new error is one class under a kind: outer layers map kinds only, so nothing else changes. ``slug`` identifies the
error on the wire for good. ``title`` is the same for every occurrence, ``detail`` is specific to one. No text here ever
contains a secret, a prompt, an answer or anything that a provider wrote.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field of a request, by the name of the use case's parameter, and what is wrong with it."""

    field: str
    message: str


def name_taken(field: str) -> FieldError:
    """The username or email in this field belongs to an account already."""
    return FieldError(field, "is already taken")


def nickname_taken(field: str = "nickname") -> FieldError:
    """The nickname in this field belongs to another API key of the same user."""
    return FieldError(field, "is already taken by another of your keys")


def sequence_taken() -> FieldError:
    """The same letters are stored under this name already, for the same user."""
    return FieldError("name", "is already taken by an equal sequence of yours")


def preset_name_taken() -> FieldError:
    """The name belongs to another preset of the same user."""
    return FieldError("name", "is already taken by another of your presets")


def token_name_taken() -> FieldError:
    """The name belongs to another API token of the same user."""
    return FieldError("name", "is already taken by another of your tokens")


class BaioError(Exception):
    """An error that the caller can read.

    ``retry_after`` is in seconds, or None where waiting does not help. ``members`` are further facts for programs, such
    as the id of the answer that is in the way.
    """

    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "The request was refused"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
        **members: str | int,
    ) -> None:
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after = retry_after
        self.members = members
        super().__init__(self.detail)


class InvalidInput(BaioError):
    """The caller can correct the request; ``errors`` names every bad field at once."""

    slug = "invalid-input"
    title = "The request is not valid"

    @classmethod
    def of(cls, *errors: FieldError) -> "InvalidInput":
        """The error for these fields, with a detail that a person can read without ``errors``."""
        return cls("; ".join(f"{error.field}: {error.message}" for error in errors), errors=tuple(errors))


class NotAuthenticated(BaioError):
    """The caller is unknown: no token, or one that is no longer valid."""

    slug = "not-authenticated"
    title = "Sign in first"


class Forbidden(BaioError):
    """The caller is known, but not allowed to do this."""

    slug = "forbidden"
    title = "This is not allowed"


class NotFound(BaioError):
    """Does not exist for this caller; another user's data does not exist either."""

    slug = "not-found"
    title = "There is no such thing"


class Conflict(BaioError):
    """Something else is in the way."""

    slug = "conflict"
    title = "The request conflicts with something else"


class TooMany(BaioError):
    """Too often or too many at once."""

    slug = "too-many"
    title = "Too many requests"


class Unavailable(BaioError):
    """The service can't do it at the moment, and the caller is not at fault."""

    slug = "unavailable"
    title = "The service is not available at the moment"


class ProviderFailure(BaioError):
    """The model's provider failed."""

    slug = "provider-failure"
    title = "The model's provider failed"


class SequenceFileRefused(InvalidInput):
    """A file of sequences that is wrong, and why: ``reason`` is a clause about its ``line``."""

    slug = "sequence-file-refused"
    title = "The file of sequences is wrong"
    line: int = 1
    reason: str = ""

    @classmethod
    def at(cls, line: int, reason: str) -> "SequenceFileRefused":
        """The refusal of a file for this line."""
        said = f"line {line:,}: {reason}"
        refusal = cls(f"content: {said}", errors=(FieldError("content", said),))
        refusal.line, refusal.reason = line, reason
        return refusal


class TooManyRecords(SequenceFileRefused):
    """A file with more sequences than one may have."""

    slug = "too-many-records"
    title = "The file has too many sequences"


class TooManyFeatures(SequenceFileRefused):
    """A file with more features than one may have."""

    slug = "too-many-features"
    title = "The file has too many features"


class BadCredentials(InvalidInput):
    """A sign-in failed; the caller is not told why."""

    slug = "bad-credentials"
    title = "Username or password is wrong"


class SecondFactorRequired(InvalidInput):
    """The password is correct, and the account needs a code as well."""

    slug = "second-factor-required"
    title = "Two-factor authentication is enabled: send a code as well"


class WrongCode(InvalidInput):
    """A one-time code that is wrong, expired or used already, or a recovery code that is unknown or used."""

    slug = "wrong-code"
    title = "The code is wrong, expired or used already"


class SecondFactorMissing(Forbidden):
    """Needs two-factor authentication, which this account has not enabled."""

    slug = "second-factor-missing"
    title = "Enable two-factor authentication first"


class NotAdministrator(Forbidden):
    """The account is not marked as an administrator's, or the request does not come from a session."""

    slug = "not-administrator"
    title = "Only administrators may do this"


class SignedInWithoutCode(Forbidden):
    """The session was opened before two-factor authentication was enabled, so without a code."""

    slug = "signed-in-without-code"
    title = "This session was opened without a code: sign in again"


class OwnAccount(Conflict):
    """Administrators can't shut themselves out."""

    slug = "own-account"
    title = "This is your own account: another administrator can do this"


class SecondFactorOn(Conflict):
    """Two-factor authentication is enabled already."""

    slug = "second-factor-on"
    title = "Two-factor authentication is enabled already"


class NotEnrolled(Conflict):
    """A code was sent to confirm a second factor, but none was enrolled."""

    slug = "not-enrolled"
    title = "Two-factor authentication has not been set up yet"


class SecretUnreadable(Conflict):
    """Stored, encrypted data can't be decrypted any more: the master key or the row has changed."""

    slug = "secret-unreadable"
    title = "The encrypted data can no longer be decrypted"


class SecondFactorUnreadable(SecretUnreadable):
    """The seed of a second factor can't be decrypted any more."""

    slug = "second-factor-unreadable"
    title = (
        "Codes can no longer be checked: use a recovery code, or ask the administrator to disable two-factor"
        " authentication"
    )


class PasswordSignInOff(InvalidInput):
    """Nobody signs in with a password here."""

    slug = "password-sign-in-off"
    title = "Passwords are switched off here: sign in with your institution"


class SignInExpired(InvalidInput):
    """A sign-in with an institution, or its ticket, that is unknown, too old or used already."""

    slug = "sign-in-expired"
    title = "This sign-in is unknown, expired or used already: start again"


class SignInInvalid(InvalidInput):
    """A message from the institution, or from somebody who pretends to be it, is not valid."""

    slug = "sign-in-invalid"
    title = "The institution's answer is not valid: start again, or tell the administrator"


class SignInRefused(Forbidden):
    """The institution did not sign the person in, or they changed their mind."""

    slug = "sign-in-refused"
    title = "The institution did not sign you in"


class IdentityNotAllowed(Forbidden):
    """The institution knows the person, but in none of the groups that may sign in here."""

    slug = "identity-not-allowed"
    title = "Your account at the institution is not allowed to sign in here"


class AccountRequired(Forbidden):
    """The identity belongs to no account, and none is made."""

    slug = "account-required"
    title = "You have no account here yet: ask the administrator for one, or link your institution to an existing one"


class AccountDisabled(Forbidden):
    """The identity belongs to an account that is disabled."""

    slug = "account-disabled"
    title = "Your account is disabled: ask the administrator"


class RecentSignInRequired(Conflict):
    """The account has no password, and its last sign-in is too long ago to prove who the caller is."""

    slug = "recent-sign-in-required"
    title = "Sign in with your institution again, and repeat this within five minutes"


class EmailTaken(Conflict):
    """A new account would have the email address of another one."""

    slug = "email-taken"
    title = "Another account has your email address: sign in there, and link your institution to it"


class IdentityTaken(Conflict):
    """The identity belongs to an account already."""

    slug = "identity-taken"
    title = "This identity is linked to an account already"


class LastWayIn(Conflict):
    """Without this identity nobody could sign in to the account."""

    slug = "last-way-in"
    title = "This is the last way into your account: set a password, or link another identity first"


class TooManyIdentities(Conflict):
    """The account has as many identities as it may have."""

    slug = "too-many-identities"
    title = "You have reached your limit of identities; unlink one that you no longer need"


class TooManySignIns(TooMany):
    """Too many sign-ins with institutions have been started from one network, or in total."""

    slug = "too-many-sign-ins"
    title = "Too many sign-ins are under way at the moment"


class IdentityNotFound(NotFound):
    """No such identity for this caller."""

    slug = "identity-not-found"
    title = "There is no such identity"


class InstitutionUnavailable(Unavailable):
    """The institution's sign-in server can't be reached, or does not work properly."""

    slug = "institution-unavailable"
    title = "The institution's sign-in server does not respond properly at the moment"


class TooManyAttempts(TooMany):
    """Too many wrong passwords or codes."""

    slug = "too-many-attempts"
    title = "Too many failed attempts"


class AccountNotFound(NotFound):
    """The account has been deleted, or never existed."""

    slug = "account-not-found"
    title = "The account no longer exists"


class TooManyRegistrations(TooMany):
    """Too many registrations from one network, or in total."""

    slug = "too-many-registrations"
    title = "Too many registrations at the moment"


class RegistrationClosed(Forbidden):
    """Nobody can register here."""

    slug = "registration-closed"
    title = "Registration is closed: ask the administrator for an account"


class InvitationRequired(Forbidden):
    """Registering needs an invitation, and none was sent."""

    slug = "invitation-required"
    title = "Registration needs an invitation: ask the administrator for one"


class InvitationInvalid(Forbidden):
    """The invitation is unknown, expired, used already, or for another email address."""

    slug = "invitation-invalid"
    title = "The invitation is unknown, expired, used already, or for another email address"


class ScopeMissing(Forbidden):
    """The API token of the request lacks the ``scope`` that it needs."""

    slug = "scope-missing"
    title = "The API token lacks the scope for this"


class SessionRequired(Forbidden):
    """No API token can do this, whatever its scopes."""

    slug = "session-required"
    title = "An API token can't do this: sign in"


class ApiTokenNotFound(NotFound):
    """No such API token for this caller."""

    slug = "api-token-not-found"
    title = "There is no such API token"


class ConversationNotFound(NotFound):
    """No such conversation for this caller."""

    slug = "conversation-not-found"
    title = "There is no such conversation"


class MessageNotFound(NotFound):
    """No such message in this conversation."""

    slug = "message-not-found"
    title = "There is no such message in this conversation"


class ApiKeyNotFound(NotFound):
    """No such stored key for this caller."""

    slug = "api-key-not-found"
    title = "There is no such API key"


class ApiKeyUnreadable(SecretUnreadable):
    """A stored API key can't be decrypted any more."""

    slug = "api-key-unreadable"
    title = "This API key can no longer be decrypted; delete it and add it again"


class ModelNotFound(NotFound):
    """None of the caller's keys has this model."""

    slug = "model-not-found"
    title = "None of your API keys has this model"


class PresetNotFound(NotFound):
    """No such preset for this caller."""

    slug = "preset-not-found"
    title = "There is no such preset"


class AnswerRunning(Conflict):
    """The conversation is being answered already; ``answer_id`` says by which answer."""

    slug = "answer-running"
    title = "An answer is already running in this conversation"


class AnswerNotFound(NotFound):
    """No answer to follow or to stop for this caller."""

    slug = "answer-not-found"
    title = "There is no such answer"


class ToolCallNotFound(NotFound):
    """No such record of a tool's call for this caller."""

    slug = "tool-call-not-found"
    title = "There is no such tool call"


class SequenceNotFound(NotFound):
    """No such stored sequence for this caller."""

    slug = "sequence-not-found"
    title = "There is no such sequence"


class QuestionNotFound(NotFound):
    """The conversation has no question that could be answered again."""

    slug = "question-not-found"
    title = "There is no question in this conversation yet"


class TooManyAnswers(TooMany):
    """The caller has as many running answers as one user may have."""

    slug = "too-many-answers"
    title = "Too many of your questions are being answered at the moment"


class TooManyStreams(TooMany):
    """The caller reads as many answers, long conversations and exports at once as one user may."""

    slug = "too-many-streams"
    title = "Too many of your responses are being read at the moment; close one"


class TooManyKeyTests(TooMany):
    """The caller tests as many API keys at once as one user may."""

    slug = "too-many-key-tests"
    title = "Too many of your API keys are being tested at the moment; wait for one"


class TooManyToolRuns(TooMany):
    """The caller runs as many tools at once as one user may."""

    slug = "too-many-tool-runs"
    title = "Too many of your tools are running at the moment; wait for one"


class TooManyImports(TooMany):
    """The caller imports as many files at once as one user may."""

    slug = "too-many-imports"
    title = "A file of yours is being imported at the moment; wait for it"


class StorageFull(Conflict):
    """The caller has stored as much text as one user may."""

    slug = "storage-full"
    title = "You have reached your limit of stored text; delete conversations that you no longer need"


class SequencesFull(Conflict):
    """The caller has stored as many letters and features of sequences as one user may."""

    slug = "sequences-full"
    title = "You have reached your limit of stored sequence data; delete some that you no longer need"


class TooManySequences(Conflict):
    """The caller has as many sequences as one user may."""

    slug = "too-many-sequences"
    title = "You have reached your limit of sequences; delete some that you no longer need"


class InputGone(Conflict):
    """A call can't be computed again: a sequence that it used has been deleted."""

    slug = "input-gone"
    title = "A sequence that this call used has been deleted"


class KeepingNotAllowed(Forbidden):
    """Users of this server can't exempt conversations from deletion."""

    slug = "keeping-not-allowed"
    title = "Conversations can't be kept longer here"


class TooManyPresets(Conflict):
    """The caller has as many presets as one user may."""

    slug = "too-many-presets"
    title = "You have reached your limit of presets; delete one that you no longer need"


class TooManyConversations(Conflict):
    """The caller has as many conversations as one user may."""

    slug = "too-many-conversations"
    title = "You have reached your limit of conversations; delete some that you no longer need"


class TooManyApiKeys(Conflict):
    """The caller has as many API keys as one user may."""

    slug = "too-many-api-keys"
    title = "You have reached your limit of API keys; delete one that you no longer need"


class TooManyApiTokens(Conflict):
    """The caller has as many API tokens as one user may."""

    slug = "too-many-api-tokens"
    title = "You have reached your limit of API tokens; revoke one that you no longer need"


class IdempotencyKeyReused(Conflict):
    """The caller used the idempotency key for another request."""

    slug = "idempotency-key-reused"
    title = "This idempotency key was used for another request"


class AnswerInterrupted(Unavailable):
    """This service cut the answer off: a restart, a crash, or a database that was unavailable for too long."""

    slug = "answer-interrupted"
    title = "The answer was interrupted"


class CatalogueEmpty(Unavailable):
    """No provider has been loaded into the database yet."""

    slug = "catalogue-empty"
    title = "No models are available yet"


class PromptRefused(InvalidInput):
    """The provider refuses this question: too long, an unknown model, or content that it rejects."""

    slug = "prompt-refused"
    title = "The provider does not accept this question"


class ToolsRefused(PromptRefused):
    """The provider accepts no tools for this model."""

    slug = "tools-refused"
    title = "The model does not accept tools"


class ParametersRefused(PromptRefused):
    """The provider does not accept some parameters for this model; ``parameters`` names them, separated by spaces."""

    slug = "parameters-refused"
    title = "The model does not accept these parameters"

    def __init__(self, detail: str | None = None, *, parameters: str = "") -> None:
        self.names = parameters.split()
        """The parameters."""
        errors = tuple(FieldError(name, "is not accepted by the provider for this model") for name in self.names)
        super().__init__(detail, errors=errors)


class PromptTooLong(PromptRefused):
    """The question, with everything that must be sent along, is longer than the model can read."""

    slug = "prompt-too-long"
    title = "The question is too long for this model"


class ModelRefused(PromptRefused):
    """The provider does not have this model, or not for this key."""

    slug = "model-refused"
    title = "The provider does not offer this model to this key"


class ProviderRateLimited(TooMany):
    """The provider limits this key; ``retry_after`` is the provider's, if it sent one."""

    slug = "provider-rate-limited"
    title = "The provider limits how often this key may be used"


class KeyRefused(ProviderFailure):
    """The provider refuses the user's key."""

    slug = "key-refused"
    title = "The provider refuses this API key"


class ProviderBroken(ProviderFailure):
    """The provider is down, cut the answer off, or sent something that can't be read."""

    slug = "provider-broken"
    title = "The provider is down or does not answer properly"


class ProviderTooSlow(ProviderFailure):
    """The provider exceeded a deadline."""

    slug = "provider-too-slow"
    title = "The provider is too slow"


NEVER_RAISED = frozenset({BaioError, Conflict, TooMany, ProviderFailure, SecretUnreadable})
"""Kinds that only group others. A caller never reads them."""


def _kinds() -> list[type[BaioError]]:
    kinds = [BaioError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return kinds


def every_error() -> list[type[BaioError]]:
    """Every class of error that a caller can read."""
    return [kind for kind in _kinds() if kind not in NEVER_RAISED]


def error_of(slug: str | None) -> BaioError:
    """The error that was recorded under this slug, without its detail; AnswerInterrupted for an unknown one."""
    return next((kind() for kind in _kinds() if kind.slug == slug), None) or AnswerInterrupted()

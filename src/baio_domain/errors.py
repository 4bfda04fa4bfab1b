"""Every refusal, by kind.

    BaioError
    ├── InvalidInput            the caller can mend the request; names every bad field
    │   └── PromptRefused       the provider, or its model, won't take this question
    ├── NotAuthenticated        who is asking is not established
    ├── Forbidden               established, and still not allowed
    ├── NotFound                does not exist for this caller
    ├── Conflict                not now: something else is in the way
    ├── TooMany                 not so often; says when again
    ├── Unavailable             this service cannot do it at the moment
    └── ProviderFailure         the model's provider did not deliver
        ├── KeyRefused          it refuses the user's key
        ├── ProviderBroken      it is down, or answers what nobody can read
        └── ProviderTooSlow     it exceeded a deadline

A new refusal is one class under a kind: the HTTP layer maps kinds alone, so no HTTP file changes. ``slug`` names the
error on the wire for good (``urn:baio:error:<slug>``); ``title`` is the same for every occurrence, ``detail`` is this
occurrence's. No text here ever holds a secret, a prompt, an answer or anything a provider wrote.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field of a request, under the name that the caller gave it."""

    field: str
    message: str


def name_taken(field: str) -> FieldError:
    """The username or email in this field belongs to an account already."""
    return FieldError(field, "is taken already")


def nickname_taken(field: str = "nickname") -> FieldError:
    """The nickname in this field belongs to another API key of the same user."""
    return FieldError(field, "is taken already by another of your keys")


class BaioError(Exception):
    """A refusal that the caller is meant to read.

    ``retry_after`` is in seconds, or None where waiting is no remedy. ``members`` are further facts that a program may
    want, such as the id of the answer that is in the way.
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
    """The request can be mended by the caller; ``errors`` names every bad field at once."""

    slug = "invalid-input"
    title = "The request is not valid"

    @classmethod
    def of(cls, *errors: FieldError) -> "InvalidInput":
        """The refusal for these fields, with a detail that a person can read without looking at ``errors``."""
        return cls("; ".join(f"{error.field}: {error.message}" for error in errors), errors=tuple(errors))


class NotAuthenticated(BaioError):
    """Who is asking is not established: no token, or one that does not hold."""

    slug = "not-authenticated"
    title = "Sign in first"


class Forbidden(BaioError):
    """Known, and still not allowed."""

    slug = "forbidden"
    title = "This is not allowed"


class NotFound(BaioError):
    """Does not exist for this caller; what is somebody else's does not exist either."""

    slug = "not-found"
    title = "There is no such thing"


class Conflict(BaioError):
    """Something else is in the way."""

    slug = "conflict"
    title = "Something else is in the way"


class TooMany(BaioError):
    """Too often or too many at once."""

    slug = "too-many"
    title = "Too many requests"


class Unavailable(BaioError):
    """The service cannot do it at the moment, through no fault of the caller."""

    slug = "unavailable"
    title = "The service is not available at the moment"


class ProviderFailure(BaioError):
    """The model's provider did not deliver."""

    slug = "provider-failure"
    title = "The model's provider did not deliver"


class BadCredentials(InvalidInput):
    """A sign-in failed, for a reason that is nobody's business."""

    slug = "bad-credentials"
    title = "Username or password is wrong"


class SecondFactorRequired(InvalidInput):
    """The password is right, and the account asks for a code as well."""

    slug = "second-factor-required"
    title = "Two-factor authentication is on: send a code as well"


class WrongCode(InvalidInput):
    """A one-time code that is wrong, too old or used already, or a recovery code that is unknown or used."""

    slug = "wrong-code"
    title = "The code is wrong, too old or used already"


class SecondFactorMissing(Forbidden):
    """Needs two-factor authentication, which this account has not turned on."""

    slug = "second-factor-missing"
    title = "Turn on two-factor authentication first"


class SecondFactorOn(Conflict):
    """Two-factor authentication is on already."""

    slug = "second-factor-on"
    title = "Two-factor authentication is on already"


class NotEnrolled(Conflict):
    """A code to confirm, and nothing that it could confirm."""

    slug = "not-enrolled"
    title = "Begin with enrollTwoFactor"


class SecondFactorUnreadable(Conflict):
    """The stored seed no longer opens: the server's master key has changed."""

    slug = "second-factor-unreadable"
    title = "Codes can no longer be checked; use a recovery code, or ask the administrator for `baio resettwofactor`"


class TooManyAttempts(TooMany):
    """Wrong passwords or codes, too many of them."""

    slug = "too-many-attempts"
    title = "Too many failed attempts"


class AccountNotFound(NotFound):
    """The account has been deleted, or never existed."""

    slug = "account-not-found"
    title = "The account does not exist any more"


class ConversationNotFound(NotFound):
    """No such conversation for this caller."""

    slug = "conversation-not-found"
    title = "There is no such conversation"


class ApiKeyNotFound(NotFound):
    """No such stored key for this caller."""

    slug = "api-key-not-found"
    title = "There is no such API key"


class ApiKeyUnreadable(Conflict):
    """A stored key no longer opens: the server's master key has changed, or the row has."""

    slug = "api-key-unreadable"
    title = "This API key can no longer be opened; delete it and add it again"


class AnswerRunning(Conflict):
    """The conversation is being answered already; ``answer_id`` says by which answer."""

    slug = "answer-running"
    title = "This conversation is being answered already"


class AnswerNotFound(NotFound):
    """No answer to follow or to stop for this caller."""

    slug = "answer-not-found"
    title = "There is no such answer"


class QuestionNotFound(NotFound):
    """Nothing has been asked in this conversation that could be answered again."""

    slug = "question-not-found"
    title = "Nothing has been asked in this conversation"


class TooManyAnswers(TooMany):
    """The caller has as many running answers as one user may have."""

    slug = "too-many-answers"
    title = "Too many of your questions are being answered at the moment"


class IdempotencyKeyReused(Conflict):
    """The idempotency key belongs to another request of the caller's."""

    slug = "idempotency-key-reused"
    title = "This Idempotency-Key was used for another request"


class AnswerInterrupted(Unavailable):
    """The answer was cut by this service: a restart, a crash, or a database that was away for too long."""

    slug = "answer-interrupted"
    title = "The answer was interrupted"


class PromptRefused(InvalidInput):
    """The provider will not take this question: too long, a model it does not have, or contents it rejects."""

    slug = "prompt-refused"
    title = "The provider does not accept this question"


class PromptTooLong(PromptRefused):
    """The question, with what must go with it, is longer than the model can read."""

    slug = "prompt-too-long"
    title = "The question is too long for this model"


class ModelRefused(PromptRefused):
    """The provider does not have this model, or not for this key."""

    slug = "model-refused"
    title = "The provider does not offer this model to this key"


class ProviderRateLimited(TooMany):
    """The provider limits this key; ``retry_after`` is the provider's own word, where it gave one."""

    slug = "provider-rate-limited"
    title = "The provider limits how often this key may ask"


class KeyRefused(ProviderFailure):
    """The provider refuses the user's key."""

    slug = "key-refused"
    title = "The provider refuses this API key"


class ProviderBroken(ProviderFailure):
    """The provider is down, cut the answer off, or sent what nobody can read."""

    slug = "provider-broken"
    title = "The provider is down or answers badly"


class ProviderTooSlow(ProviderFailure):
    """The provider exceeded a deadline."""

    slug = "provider-too-slow"
    title = "The provider is too slow"


def error_of(slug: str | None) -> BaioError:
    """The error that was recorded under this slug, without its detail; AnswerInterrupted where none was."""
    kinds = [BaioError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return next((kind() for kind in kinds if kind.slug == slug), None) or AnswerInterrupted()

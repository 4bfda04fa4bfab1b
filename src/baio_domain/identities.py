"""Identities at institutions: who may sign in with one, and how a new account gets its fields.

An identity is an issuer and a subject (OpenID Connect Core 1.0, section 2). The institution's email address or username
does not identify a person: it can be unverified, or belong to somebody else tomorrow.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from baio_domain.entities import MAX_EMAIL_LENGTH, MAX_NAME_LENGTH, Profile, account_problems
from baio_domain.errors import FieldError
from baio_domain.text import name_key, one_line

STARTED_LIFETIME = timedelta(minutes=10)
"""The time that a person has at the institution, from the start of a sign-in."""

TICKET_LIFETIME = timedelta(minutes=1)
"""How long a client has to redeem a ticket."""

PROOF_LIFETIME = timedelta(minutes=5)
"""How long a sign-in with an institution proves who an account without password is."""

MAX_STARTED = 10_000
"""Sign-ins, of all users together, that have started and not ended."""

MAX_IDENTITIES = 20
"""Identities of one account."""

MAX_ISSUER_LENGTH = 500

MAX_SUBJECT_LENGTH = 255
"""As OpenID Connect allows it."""

MAX_RETURN_TO_LENGTH = 2_000

MAX_USERNAME_LENGTH = 100
"""Characters of a username that is made of an identity, so that there is room to make it unique."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_RETURN_TO = re.compile(
    r"(?P<origin>https?://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?)"
    r"(?:/[!-\"$-\[\]-~]*)?(?:\?[!-\"$-\[\]-~]*)?",
    re.ASCII,
)
"""An absolute address in printable ASCII, without user, fragment and backslash: what every browser reads alike."""

_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


@dataclass(frozen=True, slots=True)
class Identity:
    """A way into an account: somebody at an institution, by its issuer and the subject that never changes."""

    id: int
    user_id: int
    issuer: str
    subject: str
    created_at: datetime
    last_used_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """The institution's names for the claims that fill an account.

    A name can be a URL, as some federations have it, or a path with dots into nested claims.
    """

    username: str = "preferred_username"
    email: str = "email"
    first_name: str = "given_name"
    last_name: str = "family_name"
    name: str = "name"


@dataclass(frozen=True, slots=True)
class Claims:
    """The institution's checked statements about somebody who signed in there.

    ``session`` is the institution's name for its own session, where it has one. ``values`` are the other claims as
    JSON.
    """

    issuer: str
    subject: str
    session: str | None
    values: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Assertion:
    """Somebody who signed in with an institution, and the fields of a new account for them.

    Username and email may be empty.
    """

    institution: str
    issuer: str
    subject: str
    session: str | None
    username: str
    email: str
    first_name: str
    last_name: str

    @property
    def profile(self) -> Profile:
        """The profile of a new account."""
        return Profile(self.first_name, self.last_name)

    @property
    def stored_email(self) -> str:
        """The email of a new account. If the institution sends none, a unique one that can't exist."""
        if self.email:
            return self.email
        digest = hashlib.sha256(f"{self.issuer}\n{self.subject}".encode()).hexdigest()
        return f"{digest[:32]}@no-email.invalid"  # RFC 2606, section 2


@dataclass(frozen=True, slots=True)
class Institution:
    """An institution whose accounts can sign in.

    ``name`` is what programs call it, ``label`` what people read. Where there is an ``allowed`` list, one of the values
    of one of its claims is needed. ``new_accounts`` says whether people without an account get one.
    """

    name: str
    label: str
    issuer: str
    new_accounts: bool = True
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    claims: ClaimNames = ClaimNames()

    def admits(self, claims: Claims) -> bool:
        """Whether these claims have one of the allowed values, or all are allowed."""
        if not self.allowed:
            return True
        return any(not values.isdisjoint(_texts(claims.values, name)) for name, values in self.allowed.items())

    def assertion(self, claims: Claims) -> Assertion:
        """The fields of an account, from the institution's claims."""
        names = self.claims
        whole = _text(claims.values, names.name)
        first = _text(claims.values, names.first_name)
        last = _text(claims.values, names.last_name)
        if not (first or last):
            first, _, last = whole.rpartition(" ") if " " in whole else (whole, "", "")
        email = _text(claims.values, names.email, MAX_EMAIL_LENGTH + 1)
        if any(account_problems({"email": email}, frozenset())):
            email = ""
        called = _text(claims.values, names.username) or email or first or last
        username = called.partition("@")[0].strip()[:MAX_USERNAME_LENGTH].strip()
        if not name_key(username):
            username = "user"
        return Assertion(
            self.name, claims.issuer, claims.subject, claims.session, username, email, first or username, last
        )


@dataclass(frozen=True, slots=True)
class StartedSignIn:
    """A sign-in that somebody has begun: where, and which page of which client gets the ticket."""

    institution: str
    return_to: str
    challenge: str


@dataclass(frozen=True, slots=True)
class Logout:
    """The sessions that an institution has ended: all of somebody's, or one of them.

    ``token_id`` names the message, which counts once; ``until`` is when it is too old to count at all.
    """

    issuer: str
    subject: str | None
    session: str | None
    token_id: str
    until: datetime


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, section 4.2)."""
    digest = hashlib.sha256(verifier.encode(errors="surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_verifier(text: str) -> bool:
    """Whether this has the form of a verifier (RFC 7636, section 4.1)."""
    return _VERIFIER.fullmatch(text) is not None


def challenge_problems(challenge: str) -> Iterator[FieldError]:
    """What is wrong with the challenge of a client."""
    if not _CHALLENGE.fullmatch(challenge):
        yield FieldError("challenge", "must be the S256 challenge of a verifier: 43 characters of Base64url")


def return_to_problems(return_to: str, origins: Sequence[str]) -> Iterator[FieldError]:
    """Why a browser can't be sent to this address.

    It must be below one of the origins, or on the user's own machine at any port (RFC 8252, section 7.3).
    """
    found = _RETURN_TO.fullmatch(return_to) if len(return_to) <= MAX_RETURN_TO_LENGTH else None
    if found is None:
        yield FieldError("return_to", "must be an http or https URL without user and fragment, in ASCII")
    elif found["host"].lower() not in _LOOPBACK and _origin(found["origin"]) not in map(_origin, origins):
        yield FieldError("return_to", "must be below an address that the administrator has allowed")


def username_candidates(username: str, random_part: str) -> Iterator[str]:
    """The usernames that a new account may get, in the order of preference."""
    yield username
    yield from (f"{username}{number}" for number in range(2, 10))
    yield f"{username}-{random_part}"


def _origin(url: str) -> str:
    scheme, _, rest = url.lower().partition("://")
    return f"{scheme}://{rest.removesuffix(':443' if scheme == 'https' else ':80')}"


def _texts(values: Mapping[str, object], name: str) -> list[str]:
    """The texts of a claim: of its own name, or else of the path that its dots make."""
    found: object = values.get(name)
    if found is None:
        found = values
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    several = found if isinstance(found, list) else [found]
    return [each for each in several if isinstance(each, str)]


def _text(values: Mapping[str, object], name: str, length: int = MAX_NAME_LENGTH) -> str:
    """The first text of a claim, as one short line; "" where there is none."""
    return one_line(next(iter(_texts(values, name)), ""), length)

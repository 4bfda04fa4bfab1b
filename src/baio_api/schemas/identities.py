"""The JSON of sign-in with institutions, and of identities."""

from typing import ClassVar

import msgspec

from baio_api.bodies import Body
from baio_api.schemas.common import EXAMPLE_CODE, EXAMPLE_PASSWORD, Examples, Id, SentId, Time
from baio_domain.use_cases.identities import LinkedIdentity

_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


class SignInProvider(msgspec.Struct, frozen=True):
    """An institution: its name for programs, and its label for people."""

    examples: ClassVar[Examples] = {"contract": {"provider": "feide", "label": "Feide"}}

    provider: str
    label: str


class WaysToSignIn(msgspec.Struct, frozen=True):
    """Whether the server accepts passwords, and the institutions."""

    examples: ClassVar[Examples] = {"contract": {"passwords": True, "providers": [SignInProvider.examples["contract"]]}}

    passwords: bool
    providers: list[SignInProvider]


class StartSignInRequest(Body, frozen=True):
    """An institution, the address where the browser returns, and the S256 challenge of the client's verifier."""

    examples: ClassVar[Examples] = {
        "contract": {
            "provider": "feide",
            "return_to": "http://localhost:3000/signed-in",
            "challenge": _CHALLENGE,
        }
    }

    provider: str
    return_to: str
    challenge: str


class StartedSignIn(msgspec.Struct, frozen=True):
    """The address to which the client sends the browser."""

    examples: ClassVar[Examples] = {"contract": {"url": "https://auth.dataporten.no/oauth/authorization?..."}}

    url: str


class RedeemSignInRequest(Body, frozen=True):
    """A ticket, and the verifier of the client that began. ``code`` is required if two-factor authentication is on."""

    examples: ClassVar[Examples] = {
        "contract": {"ticket": "%TICKET%", "verifier": "%VERIFIER%"},
        "withTwoFactor": {"ticket": "%TICKET%", "verifier": "%VERIFIER%", "code": EXAMPLE_CODE},
    }

    ticket: str
    verifier: str
    code: str | None = None


class IdentityInfo(msgspec.Struct, frozen=True):
    """An identity that signs in to the account. Both names are null if its institution is no longer configured."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 3,
            "provider": "feide",
            "label": "Feide",
            "issuer": "https://auth.dataporten.no",
            "subject": "76a7a061-3c55-430d-8ee0-6f82ec42501f",
            "created_at": "2024-01-15T10:00:00.000001Z",
            "last_used_at": "2024-01-15T10:00:00.000001Z",
        }
    }

    id: Id
    provider: str | None
    label: str | None
    issuer: str
    subject: str
    created_at: Time
    last_used_at: Time


class LinkIdentityRequest(Body, frozen=True):
    """A ticket with its verifier, and the password; an account without one needs a recent sign-in instead."""

    examples: ClassVar[Examples] = {
        "contract": {"ticket": "%TICKET%", "verifier": "%VERIFIER%", "password": EXAMPLE_PASSWORD},
        "withTwoFactor": {
            "ticket": "%TICKET%",
            "verifier": "%VERIFIER%",
            "password": EXAMPLE_PASSWORD,
            "code": EXAMPLE_CODE,
        },
    }

    ticket: str
    verifier: str
    password: str = ""
    code: str | None = None


class UnlinkIdentityRequest(Body, frozen=True):
    """An identity's id, and the password; an account without one needs a recent sign-in instead."""

    examples: ClassVar[Examples] = {
        "contract": {"identity_id": 3, "password": EXAMPLE_PASSWORD},
        "withTwoFactor": {"identity_id": 3, "password": EXAMPLE_PASSWORD, "code": EXAMPLE_CODE},
    }

    identity_id: SentId
    password: str = ""
    code: str | None = None


def identity_info(linked: LinkedIdentity) -> IdentityInfo:
    """The identity as its owner sees it."""
    identity, institution = linked.identity, linked.institution
    return IdentityInfo(
        identity.id,
        institution.name if institution else None,
        institution.label if institution else None,
        identity.issuer,
        identity.subject,
        identity.created_at,
        identity.last_used_at,
    )

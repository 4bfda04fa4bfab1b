"""The JSON of accounts, sign-in and two-factor authentication."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from baio_api.bodies import Body
from baio_api.schemas.common import EXAMPLE_CODE, EXAMPLE_PASSWORD, Count, Examples, Id, Time
from baio_domain.entities import account_problems, refuse_fixed
from baio_domain.errors import FieldError


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

    examples: ClassVar[Examples] = {"contract": {**UserInfo.examples["contract"], "password": EXAMPLE_PASSWORD}}

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
    """A user's profile."""

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
        "contract": {"username": "olenor", "password": EXAMPLE_PASSWORD},
        "withTwoFactor": {"username": "olenor", "password": EXAMPLE_PASSWORD, "code": EXAMPLE_CODE},
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

    examples: ClassVar[Examples] = {"contract": {"password": EXAMPLE_PASSWORD}}

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

    examples: ClassVar[Examples] = {"contract": {"code": EXAMPLE_CODE}}

    code: str


class RecoveryCodes(msgspec.Struct, frozen=True):
    """Ten codes. Each can replace a code from the app once."""

    examples: ClassVar[Examples] = {"contract": {"recovery_codes": ["%RECOVERY_CODE%"] * 10}}

    recovery_codes: list[str]


class DisableTwoFactorRequest(Body, frozen=True):
    """The password and a code."""

    examples: ClassVar[Examples] = {"contract": {"password": EXAMPLE_PASSWORD, "code": EXAMPLE_CODE}}

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
        "contract": {"current_password": EXAMPLE_PASSWORD, "code": EXAMPLE_CODE, "email": "ole.normann@example.no"}
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
    """The token of an administrator's link, and the new password."""

    examples: ClassVar[Examples] = {"contract": {"token": "%TOKEN%", "password": EXAMPLE_PASSWORD}}

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


class DeleteAccountRequest(Body, frozen=True):
    """The account's password, and a code if two-factor authentication is on."""

    examples: ClassVar[Examples] = {
        "contract": {"password": EXAMPLE_PASSWORD},
        "withTwoFactor": {"password": EXAMPLE_PASSWORD, "code": EXAMPLE_CODE},
    }

    password: str
    code: str | None = None

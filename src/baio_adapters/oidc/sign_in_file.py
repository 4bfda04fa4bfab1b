"""The sign-in file, in TOML, in which an administrator names the institutions whose accounts sign in.

[[institution]]
name = "feide"                                  # what programs call it
label = "Feide"                                 # what people read
issuer = "https://auth.dataporten.no"
client_id = "1f2e..."
client_secret = "..."                           # not for a public client
client_auth = "client_secret_post"              # where the institution's document does not say what it takes
scopes = ["openid", "profile", "email"]         # the default
new_accounts = true                             # the default
userinfo = true                                 # the default: also ask the userinfo endpoint
claims = { username = "https://n.feide.no/claims/eduPersonPrincipalName" }
allowed = { "https://n.feide.no/claims/eduPersonScopedAffiliation" = ["employee@uib.no", "student@uib.no"] }
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from baio_adapters.toml_entries import (
    EntriesFileError,
    Position,
    entry_problems,
    load,
    positions,
    type_problem,
    unknown_kinds,
)
from baio_domain.identities import MAX_ISSUER_LENGTH, ClaimNames, Institution

SCOPES = ("openid", "profile", "email")

ClientAuth = Literal["client_secret_basic", "client_secret_post"]

_Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}\Z")]
_Label = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^\S(.*\S)?\Z")]
_Secret = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[!-~]+\Z")]
_Text = Annotated[str, Meta(min_length=1, max_length=500)]
_FIELDS: dict[str, Any] = {
    "name": _Name,
    "label": _Label,
    "issuer": str,
    "client_id": _Secret,
    "client_secret": _Secret,
    "client_auth": ClientAuth,
    "scopes": Annotated[list[_Secret], Meta(min_length=1)],
    "new_accounts": bool,
    "userinfo": bool,
    "claims": dict[str, _Text],
    "allowed": dict[str, Annotated[list[_Text], Meta(min_length=1)]],
}
_REQUIRED = ("name", "label", "issuer", "client_id")
_CLAIMS = [each.name for each in fields(ClaimNames)]


@dataclass(frozen=True, slots=True)
class Registration:
    """An institution, and as which client BAiO is registered there. A public client has no secret."""

    institution: Institution
    client_id: str
    client_secret: str = field(default="", repr=False)
    client_auth: ClientAuth | None = None
    scopes: tuple[str, ...] = SCOPES
    userinfo: bool = True


class SignInFileError(Exception):
    """Every error in a sign-in file: a line of text for each, with its line number in the file; no secret."""


def read_institutions(path: Path) -> list[Registration]:
    """The institutions in this file. Raises SignInFileError, which names every error."""
    try:
        text, tables = load(path, ("institution",))
    except EntriesFileError as error:
        raise SignInFileError(str(error)) from None
    errors = list(unknown_kinds(text, tables, ("institution",)))
    found: list[Registration] = []
    first_lines: dict[tuple[str, object], int] = {}
    for table, position in zip(tables["institution"], positions(text, "institution"), strict=False):
        wrong = list(_errors(table, position))
        for name in ("name", "issuer"):
            first = first_lines.setdefault((name, str(table.get(name))), position.line)
            if name in table and first != position.line:
                wrong.append((position.line_of(name), f"this {name} is already defined on line {first}"))
        errors += [f"line {line}: {message}" for line, message in wrong]
        if not wrong:
            found.append(_registration(table))
    if not found and not errors:
        errors.append("line 1: there is no [[institution]]")
    if errors:
        raise SignInFileError("\n".join(f"{path} {error}" for error in errors))
    return found


def single_institution(**settings: Any) -> Registration:
    """The institution of these fields, which is called ``institution``. Raises SignInFileError."""
    table = {"name": "institution", **{name: value for name, value in settings.items() if value != ""}}
    if wrong := [message for _, message in _errors(table, Position(0, {}))]:
        raise SignInFileError("\n".join(wrong))
    return _registration(table)


def is_issuer(url: str) -> bool:
    """Whether this can be an issuer: an https URL without query and fragment, or http on this machine."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_ISSUER_LENGTH
    extra = parts.username or parts.password or "?" in url or "#" in url or port == 0
    return plain and bool(parts.hostname) and not extra and is_safe(url)


def is_safe(url: str) -> bool:
    """Whether nobody on the way can read what is sent to this URL, or change it."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return parts.scheme == "https"
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _errors(table: Mapping[str, Any], position: Position) -> Iterator[tuple[int, str]]:
    def problem_of(name: str, value: object) -> str | None:
        return type_problem(name, value, _FIELDS[name]) or _problem(name, value, table)

    return entry_problems(table, position, _FIELDS, _REQUIRED, problem_of)


def _problem(name: str, value: Any, table: Mapping[str, Any]) -> str | None:  # noqa: ANN401 - any field
    if name == "issuer" and not is_issuer(value):
        return "issuer must be an https URL without user, query and fragment"
    if name == "scopes" and "openid" not in value:
        return 'scopes must contain "openid"'
    if name == "claims" and (unknown := [each for each in value if each not in _CLAIMS]):
        return f"claims: unknown name {unknown[0]!r}; available: {', '.join(_CLAIMS)}"
    if name == "client_auth" and "client_secret" not in table:
        return "client_auth needs a client_secret"
    return None


def _registration(table: Mapping[str, Any]) -> Registration:
    institution = Institution(
        table["name"],
        table["label"],
        table["issuer"],
        new_accounts=table.get("new_accounts", True),
        allowed={name: frozenset(values) for name, values in table.get("allowed", {}).items()},
        claims=ClaimNames(**table.get("claims", {})),
    )
    return Registration(
        institution,
        table["client_id"],
        table.get("client_secret", ""),
        table.get("client_auth"),
        tuple(table.get("scopes", SCOPES)),
        table.get("userinfo", True),
    )

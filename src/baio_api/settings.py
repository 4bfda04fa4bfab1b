"""What an installation can set: everything comes from the environment, and what is unsafe is refused at the start."""

import contextlib
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints
from urllib.parse import urlsplit

import msgspec
import platformdirs
from msgspec import Meta
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

PREFIX = "BAIO_"
MIN_SECRET_LENGTH = 32
_WELL_KNOWN = re.compile(
    r"change.?me|your.?secret|secret.?key|insecure|example|placeholder|password|development", re.IGNORECASE
)

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class SettingsError(Exception):
    """The environment asks for something impossible or unsafe; the message is one line and holds no secret."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One installation's settings. The name of a variable is the field's, in capitals, after ``BAIO_``."""

    database_url: str = ""
    data_dir: str = ""
    secret_key: str = ""
    previous_secret_keys: str = ""
    cors_origins: str = "http://localhost:3000"
    cors_credentials: bool = False
    access_token_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 900
    refresh_token_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    session_idle_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    session_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] = 2_592_000
    audit_days: Annotated[int, Meta(ge=1, le=3650)] = 180
    trusted_proxies: str = ""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**30)] = 1_048_576
    openai_base_url: str = ""
    providers: str = ""
    providers_file: str = ""
    local_model: str = ""
    max_answer_chars: Annotated[int, Meta(ge=1, le=10_000_000)] = 1_000_000
    connect_seconds: Seconds = 10.0
    first_text_seconds: Seconds = 60.0
    between_text_seconds: Seconds = 30.0
    answer_seconds: Seconds = 600.0
    answers_per_user: Annotated[int, Meta(ge=1, le=10_000)] = 3
    on_disconnect: Literal["continue", "stop"] = "continue"
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    log_level: str = "INFO"

    def __repr__(self) -> str:
        """No field: some of them are secrets."""
        return "Settings(...)"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read and check every ``BAIO_*`` variable, or raise SettingsError naming all that is wrong in one line."""
        environment = os.environ if environment is None else environment
        given = {
            name.removeprefix(PREFIX).lower(): value.strip()
            for name, value in environment.items()
            if name.startswith(PREFIX)
        }
        kinds = get_type_hints(cls, include_extras=True)
        problems = [f"{PREFIX}{name.upper()} is not a setting" for name in given if name not in kinds]
        values: dict[str, Any] = {}
        for name in kinds.keys() & given.keys():
            try:
                values[name] = msgspec.convert(given[name], kinds[name], strict=False)
            except msgspec.ValidationError as error:
                problems.append(f"{PREFIX}{name.upper()}: {str(error)[:1].lower()}{str(error)[1:]}")
        settings = cls(**values)
        problems += settings._problems()
        if problems:
            raise SettingsError("; ".join(sorted(problems)))
        return settings

    @property
    def embedded(self) -> bool:
        """Whether the database is SQLite, which this process looks after itself: migrations, catalogue and secret."""
        return not self.database_url or self.database_url.startswith("sqlite")

    @property
    def data_path(self) -> Path:
        """Where the embedded database and its secret are."""
        return Path(self.data_dir) if self.data_dir else platformdirs.user_data_path("baio", appauthor=False)

    @property
    def database(self) -> str:
        """The URL of the database."""
        path = str(self.data_path / "baio.sqlite3")
        return self.database_url or URL.create("sqlite", database=path).render_as_string()

    @property
    def models_path(self) -> Path:
        """Where the embedded model's weights are."""
        return self.data_path / "models"

    @property
    def local_model_file(self) -> Path | None:
        """The weights of the embedded model, None where there is none."""
        if self.local_model == "off":
            return None
        if self.local_model:
            return Path(self.local_model)
        return next(self.models_path.glob("*.gguf"), None)

    @property
    def secrets_file(self) -> Path:
        """Where the embedded secrets are: a line each, the newest first."""
        return self.data_path / "secret_key"

    def secrets(self) -> list[bytes]:
        """The secrets that stored keys and tokens may have been made with, the newest first; read anew from a file."""
        kept = self.secrets_file.read_text().splitlines() if self.embedded and self.secrets_file.exists() else []
        given = [self.secret_key, *(each.strip() for each in self.previous_secret_keys.split(",") if each.strip())]
        return [secret.encode() for secret in (kept if self.secret_key in kept else given)]

    @property
    def origins(self) -> list[str]:
        """The origins that browsers may call from."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]

    @property
    def proxies(self) -> list[str]:
        """The addresses and networks of the proxies that are believed about a client's address."""
        return [proxy.strip() for proxy in self.trusted_proxies.split(",") if proxy.strip()]

    def _problems(self) -> list[str]:
        problems = [*self._database_problems(), *self._secret_problems()]
        # An access token outlives neither, so that a request needs to ask no clock whether its session is over.
        if min(self.session_idle_seconds, self.session_seconds) < self.access_token_seconds:
            problems.append("BAIO_ACCESS_TOKEN_SECONDS can't be more than a session lasts")
        for proxy in self.proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                problems.append(f"BAIO_TRUSTED_PROXIES: {proxy!r} is neither an address nor a network")
        if "*" in self.origins and self.cors_credentials:
            problems.append("BAIO_CORS_ORIGINS can't be * while BAIO_CORS_CREDENTIALS is on")
        problems += [
            f"BAIO_CORS_ORIGINS: {origin!r} is not an origin such as https://baio.example.org"
            for origin in self.origins
            if origin != "*" and not re.fullmatch(r"https?://[^/?#@\s*]+", origin)
        ]
        if self.openai_base_url and not _is_http(self.openai_base_url):
            problems.append("BAIO_OPENAI_BASE_URL is not an http(s) URL")
        if self.local_model not in ("", "off") and not Path(self.local_model).is_file():
            problems.append("BAIO_LOCAL_MODEL is neither off nor a file")
        if self.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            problems.append("BAIO_LOG_LEVEL is not one of DEBUG, INFO, WARNING, ERROR")
        return problems

    def _database_problems(self) -> list[str]:
        if not self.database_url:
            return []
        try:
            url = make_url(self.database_url)
            port = url.port
        except (ArgumentError, ValueError):
            return ["BAIO_DATABASE_URL is not a URL"]
        if url.drivername == "sqlite":
            file = not url.host and url.database and ":memory:" not in url.database
            return [] if file else ["BAIO_DATABASE_URL needs a file: sqlite:////absolute/path or sqlite:///relative"]
        if url.drivername not in {"postgresql", "postgresql+psycopg"}:
            return ["BAIO_DATABASE_URL is neither postgresql:// nor sqlite:///"]
        if not url.database or "@" in url.database or not 0 < (port or 5432) <= 65535:
            return ["BAIO_DATABASE_URL needs the form postgresql://user:password@host:port/database"]
        return []

    def _secret_problems(self) -> list[str]:
        secret = self.secret_key
        if not secret and self.previous_secret_keys:
            return ["BAIO_PREVIOUS_SECRET_KEYS needs the new secret in BAIO_SECRET_KEY"]
        if not secret:
            return [] if self.embedded else ["BAIO_SECRET_KEY is required with PostgreSQL (`openssl rand -base64 48`)"]
        if len(secret) < MIN_SECRET_LENGTH:
            return [f"BAIO_SECRET_KEY must have at least {MIN_SECRET_LENGTH} characters (`openssl rand -base64 48`)"]
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            return ["BAIO_SECRET_KEY must be printable ASCII without spaces (`openssl rand -base64 48`)"]
        if _WELL_KNOWN.search(secret) or len(set(secret)) < 10:
            return ["BAIO_SECRET_KEY is one that anybody could guess (`openssl rand -base64 48`)"]
        return []


def with_secret(settings: Settings) -> Settings:
    """The settings with a secret key: the one that is set, else the embedded one, made on first use (mode 0600)."""
    if settings.secret_key:
        return settings
    path = settings.secrets_file
    if not path.exists():
        draft = _draft(path, [secrets.token_urlsafe(48)])
        # Whole or not at all, and once: where two processes start at the same time, the second takes the first one's.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    kept = path.read_text().splitlines()
    if not kept or any(len(secret) < MIN_SECRET_LENGTH for secret in kept):
        raise SettingsError(f"{path} is damaged: it must hold the secret key that this data was encrypted with")
    return msgspec.structs.replace(settings, secret_key=kept[0])


def add_secret(settings: Settings) -> None:
    """Put a new embedded secret before the others."""
    path = settings.secrets_file
    _draft(path, [secrets.token_urlsafe(48), *path.read_text().splitlines()]).replace(path)


def forget_old_secrets(settings: Settings) -> int:
    """Keep the newest embedded secret alone; how many are gone."""
    path = settings.secrets_file
    newest, *old = path.read_text().splitlines()
    _draft(path, [newest]).replace(path)
    return len(old)


def _draft(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(handle, "w") as file:
        file.write("\n".join(lines))
    return Path(draft)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not (parts.username or parts.query)

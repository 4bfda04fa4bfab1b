"""The settings of an installation: read from the environment, and checked at start so that unsafe ones are refused."""

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints
from urllib.parse import urlsplit

import msgspec
import platformdirs
from msgspec import Meta
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from baio_api.secret_file import MIN_SECRET_LENGTH, SecretFile, SecretFileError
from baio_domain.errors import Unavailable

PREFIX = "BAIO_"
_WELL_KNOWN = re.compile(
    r"change.?me|your.?secret|secret.?key|insecure|example|placeholder|password|development", re.IGNORECASE
)

_KUBERNETES_SERVICE = re.compile(
    r"\w+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)=.*|\w+_PORT=\w+://.*", re.DOTALL
)
"""The variables that Kubernetes sets in every container for a service called ``baio`` or ``baio-something``."""

FILE_SETTINGS = ("database_url", "secret_key", "previous_secret_keys", "proxy", "sign_in_client_secret")
"""Settings that hold secrets. Each may be in a file that ``BAIO_..._FILE`` names, as containers are given secrets."""

MAX_SETTING_FILE_BYTES = 65_536
Quota = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""0 means no limit."""

_WIDEST_NETWORK = {4: 8, 6: 7}
"""The shortest prefix of a trusted network: those of the largest private ones, 10.0.0.0/8 and fc00::/7.

A wider network contains strangers, and BAiO would believe what they say about their address.
"""

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", re.ASCII)

_UNREADABLE = "The server's secret key can't be read at the moment."

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class SettingsError(Exception):
    """A setting is invalid or unsafe. The message is one line and holds no secret."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one installation. Each is read from ``BAIO_`` followed by the field's name in capitals."""

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
    api_token_days: Annotated[int, Meta(ge=0, le=36_500)] = 366
    public_url: str = ""
    password_sign_in: Literal["on", "off"] = "on"  # noqa: S105 - not a password
    sign_in_file: str = ""
    sign_in_issuer: str = ""
    sign_in_client_id: str = ""
    sign_in_client_secret: str = ""
    sign_in_label: str = "Your institution"
    sign_in_scopes: str = "openid profile email"
    sign_in_new_accounts: bool = True
    registration: Literal["open", "invited", "closed"] = "open"
    registrations_per_hour_and_network: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    registrations_per_hour: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    audit_days: Annotated[int, Meta(ge=1, le=3650)] = 180
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    keep_allowed: bool = True
    trusted_proxies: str = ""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**30)] = 1_048_576
    max_completion_bytes: Annotated[int, Meta(ge=1024, le=2**30)] = 8_388_608
    max_sequence_bytes: Annotated[int, Meta(ge=1024, le=2**30)] = 16_777_216
    max_import_bytes: Annotated[int, Meta(ge=1024, le=2**31)] = 134_217_728
    request_head_seconds: Seconds = 10.0
    between_body_seconds: Seconds = 30.0
    keep_alive_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 75
    proxy: str = ""
    openai_base_url: str = ""
    providers: str = ""
    providers_file: str = ""
    local_model: str = ""
    max_answer_chars: Annotated[int, Meta(ge=1, le=10_000_000)] = 1_000_000
    connect_seconds: Seconds = 10.0
    first_text_seconds: Seconds = 60.0
    between_text_seconds: Seconds = 30.0
    answer_seconds: Seconds = 600.0
    thinking_seconds: Seconds = 600.0
    answers_per_user: Annotated[int, Meta(ge=1, le=10_000)] = 3
    stored_bytes_per_user: Quota = 268_435_456
    conversations_per_user: Quota = 10_000
    api_keys_per_user: Quota = 100
    api_tokens_per_user: Quota = 100
    sessions_per_user: Quota = 50
    sequences_per_user: Quota = 10_000
    sequence_bytes_per_user: Quota = 104_857_600
    streams_per_user: Quota = 20
    key_tests_per_user: Quota = 2
    tool_runs_per_user: Quota = 2
    tool_notes: Literal["inline", "off"] = "inline"
    stalled_client_seconds: Seconds = 60.0
    on_disconnect: Literal["continue", "stop"] = "continue"
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    metrics: str = ""
    log_level: str = "INFO"

    def __repr__(self) -> str:
        """Shows no field, because some are secrets."""
        return "Settings(...)"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read and check every ``BAIO_*`` variable. Raises one SettingsError that names everything that is wrong."""
        environment = os.environ if environment is None else environment
        types = get_type_hints(cls, include_extras=True)
        found = {
            name.removeprefix(PREFIX).lower(): value.strip()
            for name, value in environment.items()
            if name.startswith(PREFIX) and not _KUBERNETES_SERVICE.fullmatch(f"{name}={value}")
        }
        problems = list(_read_files(found))
        problems += [f"{PREFIX}{name.upper()} is not a setting" for name in found if name not in types]
        values: dict[str, Any] = {}
        for name in types.keys() & found.keys():
            try:
                values[name] = msgspec.convert(found[name], types[name], strict=False)
            except msgspec.ValidationError as error:
                problems.append(f"{PREFIX}{name.upper()}: {str(error)[:1].lower()}{str(error)[1:]}")
        settings = cls(**values)
        problems += settings._problems()
        if path := environment.get("SSL_CERT_FILE"):
            problems += _certificate_problems(path)
        if problems:
            raise SettingsError("; ".join(sorted(problems)))
        return settings

    @property
    def embedded(self) -> bool:
        """Whether the database is SQLite. BAiO then manages its migrations, catalogue and secret key itself."""
        return not self.database_url or self.database_url.startswith("sqlite")

    @property
    def data_path(self) -> Path:
        """The folder of the embedded database and its secret key."""
        return Path(self.data_dir) if self.data_dir else platformdirs.user_data_path("baio", appauthor=False)

    @property
    def database(self) -> str:
        """The URL of the database."""
        path = str(self.data_path / "baio.sqlite3")
        return self.database_url or URL.create("sqlite", database=path).render_as_string()

    @property
    def database_file(self) -> Path | None:
        """The file of the embedded database; None with PostgreSQL."""
        return Path(make_url(self.database).database or "") if self.embedded else None

    @property
    def models_path(self) -> Path:
        """The folder of the embedded model's weights."""
        return self.data_path / "models"

    @property
    def local_model_file(self) -> Path | None:
        """The weights of the embedded model, or None if it is switched off or not downloaded."""
        if self.local_model == "off":
            return None
        if self.local_model:
            return Path(self.local_model)
        return next(self.models_path.glob("*.gguf"), None)

    @property
    def secret_file(self) -> SecretFile:
        """The file with the secret keys, where the environment sets none."""
        return SecretFile(self.data_path / "secret_key")

    def ensure_secret(self) -> None:
        """Create the secret file if no secret is set and it is missing. Raises SettingsError if it can't be used."""
        if self.secret_key:
            return
        try:
            self.secret_file.create()
            self.secret_file.read()
        except SecretFileError as error:
            raise SettingsError(str(error)) from None

    def secrets(self) -> list[bytes]:
        """Every secret that may have signed tokens or encrypted stored keys, the newest first.

        Raises Unavailable if the secret file is needed and can't be read.
        """
        if self.secret_key:
            previous = (each.strip() for each in self.previous_secret_keys.split(",") if each.strip())
            return [secret.encode() for secret in (self.secret_key, *previous)]
        try:
            return [secret.encode() for secret in self.secret_file.read()]
        except SecretFileError:
            raise Unavailable(_UNREADABLE, retry_after=5) from None

    def present_secrets(self) -> Callable[[], list[bytes]]:
        """A function that returns ``secrets()`` as they are at each call, so that running servers notice an exchange.

        A call costs microseconds: the file is only ever replaced as a whole, and is read only after that.
        """
        if self.secret_key:
            fixed = self.secrets()
            return lambda: fixed
        path = self.secret_file.path
        version: tuple[int, int, int] | None = None
        secrets: list[bytes] = []

        def present() -> list[bytes]:
            nonlocal version, secrets
            try:
                found = path.stat()
            except OSError:
                raise Unavailable(_UNREADABLE, retry_after=5) from None
            seen = found.st_ino, found.st_mtime_ns, found.st_size
            if seen != version:
                secrets = self.secrets()
                version = seen
            return secrets

        return present

    @property
    def origins(self) -> list[str]:
        """The origins allowed by CORS."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Where Prometheus finds the metrics; None if it does not."""
        match = _ADDRESS.fullmatch(self.metrics)
        return (match[1] or match[2], int(match[3])) if match else None

    @property
    def proxies(self) -> list[str]:
        """The addresses and networks of proxies whose ``X-Forwarded-For`` is trusted."""
        return [proxy.strip() for proxy in self.trusted_proxies.split(",") if proxy.strip()]

    @property
    def sign_in_address(self) -> str:
        """Where institutions send browsers back to."""
        return f"{self.public_url.rstrip('/')}/user/finishSignIn/"

    def proxy_to(self, base_url: str | None) -> str | None:
        """The proxy through which this URL is reached, None for none. This machine is always reached directly."""
        host = urlsplit(base_url or "").hostname or ""
        try:
            here = ipaddress.ip_address(host).is_loopback
        except ValueError:
            here = host == "localhost" or host.endswith(".localhost")
        return None if here else self.proxy or None

    def _problems(self) -> list[str]:
        problems = [*self._database_problems(), *self._secret_problems(), *self._sign_in_problems()]
        # Access tokens expire before their session does, so no request has to check whether the session has expired.
        if min(self.session_idle_seconds, self.session_seconds) < self.access_token_seconds:
            problems.append("BAIO_ACCESS_TOKEN_SECONDS must not be longer than a session lasts")
        problems += self._trusted_proxies_problems()
        if "*" in self.origins and self.cors_credentials:
            problems.append("BAIO_CORS_ORIGINS must not be * when BAIO_CORS_CREDENTIALS is on")
        problems += [
            f"BAIO_CORS_ORIGINS: {origin!r} is not an origin such as https://baio.example.org"
            for origin in self.origins
            if origin != "*" and not re.fullmatch(r"https?://[^/?#@\s*]+", origin)
        ]
        if self.openai_base_url and not _is_http(self.openai_base_url):
            problems.append("BAIO_OPENAI_BASE_URL must be an http or https URL, without a user name or a query")
        if self.proxy and not _is_proxy(self.proxy):
            problems.append("BAIO_PROXY must have the form http://host:port or https://user:password@host:port")
        if self.metrics and (self.metrics_address is None or self.metrics_address[1] > 65535):
            problems.append("BAIO_METRICS must have the form address:port, such as 127.0.0.1:9464 or [::1]:9464")
        if self.local_model not in ("", "off") and not Path(self.local_model).is_file():
            problems.append("BAIO_LOCAL_MODEL must be off or the path of a file")
        if self.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            problems.append("BAIO_LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR")
        return problems

    def _trusted_proxies_problems(self) -> Iterator[str]:
        for proxy in self.proxies:
            try:
                network = ipaddress.ip_network(proxy)
            except ValueError:
                yield f"BAIO_TRUSTED_PROXIES: {proxy!r} is neither an address nor a network"
                continue
            if network.prefixlen < _WIDEST_NETWORK[network.version]:
                yield f"BAIO_TRUSTED_PROXIES: {proxy!r} is too wide: name the proxies, or a private network"

    def _sign_in_problems(self) -> Iterator[str]:
        institutions = bool(self.sign_in_file or self.sign_in_issuer)
        if self.password_sign_in == "off" and not institutions:  # noqa: S105 - not a password
            yield "BAIO_PASSWORD_SIGN_IN must be on without institutions (BAIO_SIGN_IN_FILE, BAIO_SIGN_IN_ISSUER)"
        if institutions and not self.public_url:
            yield "BAIO_PUBLIC_URL is required where institutions sign in"
        if self.public_url and not (_is_http(self.public_url) and "#" not in self.public_url):
            yield "BAIO_PUBLIC_URL must be an http or https URL, without a user name, a query and a fragment"
        if bool(self.sign_in_issuer) != bool(self.sign_in_client_id):
            yield "BAIO_SIGN_IN_ISSUER and BAIO_SIGN_IN_CLIENT_ID need each other"

    def _database_problems(self) -> list[str]:
        if not self.database_url:
            return []
        try:
            url = make_url(self.database_url)
            port = url.port
        except (ArgumentError, ValueError):
            return [f"BAIO_DATABASE_URL is not a URL{_SEVERAL_HOSTS if ',' in self.database_url else ''}"]
        if url.drivername == "sqlite":
            file = not url.host and url.database and ":memory:" not in url.database
            return (
                []
                if file
                else ["BAIO_DATABASE_URL must name a file: sqlite:////absolute/path or sqlite:///relative/path"]
            )
        if url.drivername not in {"postgresql", "postgresql+psycopg"}:
            return ["BAIO_DATABASE_URL must begin with postgresql:// or sqlite:///"]
        if not url.database or "@" in url.database or not 0 < (port or 5432) <= 65535:
            return ["BAIO_DATABASE_URL must have the form postgresql://user:password@host:port/database"]
        return _unknown_parameters(url)

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
            return ["BAIO_SECRET_KEY is easy to guess (`openssl rand -base64 48`)"]
        return []


def _read_files(found: dict[str, str]) -> Iterator[str]:
    """Replace the settings that name files with what the files hold. Yields what is wrong."""
    for name in FILE_SETTINGS:
        path = found.pop(f"{name}_file", "")
        setting = f"{PREFIX}{name.upper()}"
        if not path:
            continue
        if name in found:
            yield f"{setting} and {setting}_FILE are both set"
            continue
        try:
            with Path(path).open("rb") as file:
                content = file.read(MAX_SETTING_FILE_BYTES + 1)
            text = content.decode("utf-8-sig").strip()
        except OSError as error:
            yield f"{setting}_FILE: {path!r} can't be read: {os.strerror(error.errno or 0).lower()}"
            continue
        except ValueError:
            yield f"{setting}_FILE: {path!r} is not text in UTF-8"
            continue
        if not text or len(content) > MAX_SETTING_FILE_BYTES:
            yield f"{setting}_FILE: {path!r} is {'empty' if not text else 'too long'}"
        found[name] = ",".join(text.split()) if name == "previous_secret_keys" else text


_SEVERAL_HOSTS = ". Several hosts are written as postgresql://user:password@/database?host=first:5432&host=second:5432"


def _unknown_parameters(url: URL) -> list[str]:
    from psycopg.pq import Conninfo  # noqa: PLC0415 - a server on SQLite does not load it

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    if known.issuperset(url.query):
        return []
    # They are not named: behind a password with a question mark, they are parts of it.
    return ["BAIO_DATABASE_URL has a parameter that libpq does not know, such as pgbouncer, schema or currentSchema"]


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not (parts.username or parts.query)


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    extra = parts.path.strip("/") or parts.query or parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain and not extra and port != 0


def _certificate_problems(path: str) -> list[str]:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one as well
        return [f"SSL_CERT_FILE must be a file of certificates in PEM: {error.strerror or 'it has none'}"]
    return []

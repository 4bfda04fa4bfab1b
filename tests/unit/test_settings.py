"""What an installation can set, and what is refused at the start: in one line, and without a secret in it."""

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from baio_api.settings import Settings, SettingsError

SECRET = "kT7xw2Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Ya"
POSTGRESQL = {"BAIO_DATABASE_URL": "postgresql://baio:hunter2@db.example.org/baio", "BAIO_SECRET_KEY": SECRET}


def refusal(**environment: str) -> str:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({f"BAIO_{name}": value for name, value in environment.items()})
    said = str(refused.value)
    assert "\n" not in said
    return said


def accepted(**environment: str) -> Settings:
    return Settings.from_environment({f"BAIO_{name}": value for name, value in environment.items()})


# -- What is there without any setting ---------------------------------------------------------------------------------


def test_without_any_setting_it_is_the_embedded_database_and_the_contracts_numbers() -> None:
    settings = Settings.from_environment({"PATH": "/bin", "OPENAI_API_KEY": "sk-not-ours"})
    assert settings == Settings()
    assert settings.embedded
    assert settings.database.startswith("sqlite:///")
    assert (settings.access_token_seconds, settings.refresh_token_seconds) == (15 * 60, 24 * 60 * 60)
    assert settings.max_body_bytes == 1024 * 1024
    assert settings.origins == ["http://localhost:3000"]


def test_the_environment_of_the_process_is_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BAIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BAIO_LOG_LEVEL", "debug")
    assert Settings.from_environment().log_level == "debug"


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("ACCESS_TOKEN_SECONDS", "60", "access_token_seconds", 60),
        ("FIRST_TEXT_SECONDS", " 2.5 ", "first_text_seconds", 2.5),
        ("DRAIN_SECONDS", "0", "drain_seconds", 0.0),
        ("CORS_CREDENTIALS", "true", "cors_credentials", True),
        ("CORS_CREDENTIALS", "0", "cors_credentials", False),
        ("ON_DISCONNECT", "stop", "on_disconnect", "stop"),
        ("OPENAI_BASE_URL", "http://localhost:8080/v1", "openai_base_url", "http://localhost:8080/v1"),
        ("SECRET_KEY", f" {SECRET}\n", "secret_key", SECRET),
    ],
)
def test_a_setting_is_read_as_what_it_is(name: str, value: str, field: str, expected: object) -> None:
    assert getattr(accepted(**{name: value}), field) == expected


def test_several_origins_are_separated_by_commas() -> None:
    settings = accepted(CORS_ORIGINS="https://baio.example.org, http://localhost:3000 ,")
    assert settings.origins == ["https://baio.example.org", "http://localhost:3000"]
    assert accepted(CORS_ORIGINS="*").origins == ["*"]
    assert accepted(CORS_ORIGINS="").origins == []


@pytest.mark.parametrize(
    ("value", "address"),
    [("", None), ("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0)), ("localhost:1", ("localhost", 1))],
)
def test_metrics_have_an_address_of_their_own_or_none(value: str, address: tuple[str, int] | None) -> None:
    assert accepted(METRICS=value).metrics_address == address


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCESS_TOKEN_SECONDS", "soon"), ("ACCESS_TOKEN_SECONDS", "0"), ("ACCESS_TOKEN_SECONDS", "86401"),
        ("REFRESH_TOKEN_SECONDS", "-1"), ("REFRESH_TOKEN_SECONDS", "1.5"), ("MAX_BODY_BYTES", "10"),
        ("MAX_ANSWER_CHARS", "0"), ("CONNECT_SECONDS", "0"), ("FIRST_TEXT_SECONDS", "nan"),
        ("BETWEEN_TEXT_SECONDS", "inf"), ("ANSWER_SECONDS", "-5"), ("ANSWERS_PER_USER", "0"),
        ("ON_DISCONNECT", "explode"), ("DRAIN_SECONDS", "-1"), ("DRAIN_SECONDS", ""), ("CORS_CREDENTIALS", "perhaps"),
        ("LOG_LEVEL", "loud"), ("LOG_LEVEL", ""), ("OPENAI_BASE_URL", "localhost:8080"),
        ("OPENAI_BASE_URL", "ftp://localhost/v1"), ("OPENAI_BASE_URL", "https://"),
        ("OPENAI_BASE_URL", "https://user@example.org/v1"), ("OPENAI_BASE_URL", "https://example.org/v1?key=x"),
        ("OPENAI_BASE_URL", "https://[::1"), ("CORS_ORIGINS", "baio.example.org"),
        ("CORS_ORIGINS", "https://baio.example.org/"), ("CORS_ORIGINS", "https://*.example.org"),
        ("CORS_ORIGINS", "http://localhost:3000,nonsense"), ("CORS_ORIGINS", "https://a\nb"),
        ("SESSION_IDLE_SECONDS", "0"), ("SESSION_SECONDS", "-1"), ("AUDIT_DAYS", "0"), ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "proxy.example.org"), ("TRUSTED_PROXIES", "10.0.0.1/8"), ("TRUSTED_PROXIES", "::1,x"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"), ("TRUSTED_PROXIES", "::/0"), ("TRUSTED_PROXIES", "127.0.0.1,128.0.0.0/7"),
        ("TRUSTED_PROXIES", "2000::/3"), ("METRICS", "9464"), ("METRICS", "127.0.0.1"), ("METRICS", "127.0.0.1:65536"),
        ("METRICS", "::1:9464"), ("METRICS", "http://127.0.0.1:9464"), ("METRICS", "127.0.0.1:٩٤٦٤"), ("METRICS", ":1"),
    ],
)  # fmt: skip
def test_what_is_impossible_is_refused_by_name(name: str, value: str) -> None:
    assert refusal(**{name: value}).startswith(f"BAIO_{name}")


@pytest.mark.parametrize("name", ["SESSION_IDLE_SECONDS", "SESSION_SECONDS"])
def test_a_token_that_would_outlive_its_session_is_refused(name: str) -> None:
    assert refusal(**{name: "899"}) == "BAIO_ACCESS_TOKEN_SECONDS must not be longer than a session lasts"
    assert getattr(accepted(**{name: "900"}), name.lower()) == 900


def test_proxies_are_addresses_or_networks_separated_by_commas() -> None:
    assert accepted(TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8,::1 ,").proxies == ["127.0.0.1", "10.0.0.0/8", "::1"]
    assert accepted(TRUSTED_PROXIES="10.0.0.0/8,fc00::/7").proxies == ["10.0.0.0/8", "fc00::/7"]
    assert accepted().proxies == []


def test_a_name_that_is_no_setting_is_refused_without_its_value() -> None:
    said = refusal(SECRET_KEYS="sk-live-secret")
    assert said == "BAIO_SECRET_KEYS is not a setting"


KUBERNETES = {
    "BAIO_SERVICE_HOST": "10.0.0.11",
    "BAIO_SERVICE_PORT": "8000",
    "BAIO_SERVICE_PORT_HTTP": "8000",
    "BAIO_PORT": "tcp://10.0.0.11:8000",
    "BAIO_PORT_8000_TCP": "tcp://10.0.0.11:8000",
    "BAIO_PORT_8000_TCP_PROTO": "tcp",
    "BAIO_PORT_8000_TCP_PORT": "8000",
    "BAIO_PORT_8000_TCP_ADDR": "10.0.0.11",
    "BAIO_WEB_SERVICE_HOST": "10.0.0.12",
    "BAIO_WEB_PORT": "udp://[fd00::1]:53",
}


def test_what_kubernetes_says_about_a_service_called_baio_is_no_setting() -> None:
    assert Settings.from_environment(KUBERNETES) == Settings()
    assert refusal(PORT="8000") == "BAIO_PORT is not a setting"
    assert refusal(SERVICE_HOSTS="x") == "BAIO_SERVICE_HOSTS is not a setting"


# -- Secrets in files --------------------------------------------------------------------------------------------------


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    key, url, previous = tmp_path / "key", tmp_path / "url", tmp_path / "previous"
    key.write_bytes(b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n")
    url.write_text(f"{POSTGRESQL['BAIO_DATABASE_URL']}\n")
    previous.write_text(f"{SECRET}1\n\n{SECRET}2\n")
    settings = accepted(SECRET_KEY_FILE=f" {key} ", DATABASE_URL_FILE=str(url), PREVIOUS_SECRET_KEYS_FILE=str(previous))
    assert (settings.secret_key, settings.database_url) == (SECRET, POSTGRESQL["BAIO_DATABASE_URL"])
    assert settings.secrets() == [SECRET.encode(), f"{SECRET}1".encode(), f"{SECRET}2".encode()]


@pytest.mark.parametrize("name", ["DATABASE_URL", "SECRET_KEY", "PREVIOUS_SECRET_KEYS"])
def test_a_file_that_holds_no_secret_is_refused_by_name_and_without_its_content(name: str, tmp_path: Path) -> None:
    file, missing = tmp_path / "secret", str(tmp_path / "missing")
    others = {} if name == "DATABASE_URL" else {"SECRET_KEY": SECRET}
    others.pop(name, None)
    assert refusal(**others, **{f"{name}_FILE": missing}).startswith(
        f"BAIO_{name}_FILE: {missing!r} can't be read: no such file or directory"
    )
    assert "is a directory" in refusal(**others, **{f"{name}_FILE": str(tmp_path)})
    for content, why in (
        (b" \n", "is empty"),
        (b"\xff\xfe hunter2", "is not text in UTF-8"),
        (b"x" * 70_000, "is too long"),
    ):
        file.write_bytes(content)
        said = refusal(**others, **{f"{name}_FILE": str(file)})
        assert f"BAIO_{name}_FILE: {str(file)!r} {why}" in said
        assert "hunter2" not in said
        assert len(said) < 1000


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    assert refusal(SECRET_KEY=SECRET, SECRET_KEY_FILE=str(file)) == (
        "BAIO_SECRET_KEY and BAIO_SECRET_KEY_FILE are both set"
    )


def test_everything_that_is_wrong_is_said_at_once() -> None:
    said = refusal(
        NOPE="x", LOG_LEVEL="loud", ACCESS_TOKEN_SECONDS="soon", SECRET_KEY="short", DATABASE_URL="mysql://x"
    )
    for name in ("NOPE", "LOG_LEVEL", "ACCESS_TOKEN_SECONDS", "SECRET_KEY", "DATABASE_URL"):
        assert said.count(f"BAIO_{name}") == 1


def test_every_origin_with_credentials_is_refused() -> None:
    assert "BAIO_CORS_ORIGINS" in refusal(CORS_ORIGINS="*", CORS_CREDENTIALS="1")
    assert accepted(CORS_ORIGINS="https://baio.example.org", CORS_CREDENTIALS="1").cors_credentials


@pytest.mark.parametrize(
    "secret",
    ["short", "x" * 32, "abcabcabcabcabcabcabcabcabcabcabcabc", f"change-me-{SECRET}", f"{SECRET}SECRET_KEY{SECRET}",
     f"django-insecure-{SECRET}", f"{SECRET} with spaces", f"{SECRET}æ", f"{SECRET}\x07"],
)  # fmt: skip
def test_a_secret_that_is_short_or_well_known_or_unprintable_is_refused_without_being_shown(secret: str) -> None:
    said = refusal(SECRET_KEY=secret)
    assert said.startswith("BAIO_SECRET_KEY")
    assert secret not in said
    assert SECRET not in said


def test_postgresql_needs_a_secret_of_its_own() -> None:
    assert "BAIO_SECRET_KEY is required" in refusal(DATABASE_URL=POSTGRESQL["BAIO_DATABASE_URL"])
    assert not Settings.from_environment(POSTGRESQL).embedded


# -- The database ------------------------------------------------------------------------------------------------------

GOOD_URLS = [
    "sqlite:////srv/baio/baio.sqlite3",
    "sqlite:///relative.sqlite3",
    "postgresql://baio:hunter2@db.example.org:5433/baio?sslmode=verify-full",
    "postgresql+psycopg://baio@localhost/baio",
    "postgresql:///baio?host=/run/postgresql",
    "postgresql://baio:hunter2@/baio?host=first:5432&host=second:5432&target_session_attrs=read-write",
    "postgresql://baio@localhost/baio?options=-csearch_path%3Dlab&connect_timeout=30",
]
BAD_URLS = [
    "baio", "sqlite", "sqlite:", "sqlite://", "sqlite:///", "sqlite:relative.sqlite3", "sqlite:/srv/baio.sqlite3",
    "sqlite://host/baio.sqlite3", "sqlite:///:memory:", "sqlite+aiosqlite:///x", "mysql://root:hunter2@h/baio",
    "postgres://u:hunter2@h/baio", "postgresql:", "postgresql:baio", "postgresql:/h/baio", "postgresql://",
    "postgresql://u:hunter2@h", "postgresql://u:hunter2@h/", "postgresql://u:hunter2@h:port/baio",
    "postgresql://u:hunter2@h/baio?pgbouncer=true", "postgresql://u:hunter2@h:1,i:2/baio", "postgresql://u@h/b?pw=hunter2",
    "postgresql://u:hunter2@h:99999/baio", "postgresql://u:hunter2@[::1/baio", "postgresql+asyncpg://h/baio",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_database_url_that_can_be_used_is_accepted(url: str) -> None:
    settings = accepted(DATABASE_URL=url, SECRET_KEY=SECRET)
    assert settings.database == url
    assert settings.embedded == url.startswith("sqlite")
    assert make_url(settings.database).database


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_database_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    said = refusal(DATABASE_URL=url, SECRET_KEY=SECRET)
    assert said.startswith("BAIO_DATABASE_URL")
    assert "hunter2" not in said


def test_several_hosts_in_the_form_of_libpq_are_refused_with_the_form_that_is_taken() -> None:
    said = refusal(DATABASE_URL="postgresql://u:hunter2@first:5432,second:5432/baio", SECRET_KEY=SECRET)
    assert "postgresql://user:password@/database?host=first:5432&host=second:5432" in said


@given(
    st.sampled_from(["sqlite", "SQLITE", "postgresql", "PostgreSQL", "postgresql+psycopg"]),
    st.sampled_from([":", ":/", "://", ":///", ":////"]),
    st.text("ab:@/.?#[]%1 ", max_size=12),
)
def test_every_database_url_that_is_accepted_means_one_thing_to_everybody(scheme: str, slashes: str, rest: str) -> None:
    try:
        settings = accepted(DATABASE_URL=f"{scheme}{slashes}{rest}", SECRET_KEY=SECRET)
    except SettingsError:
        return
    url = make_url(settings.database)
    assert url.database
    assert url.get_backend_name().lower() == ("sqlite" if settings.embedded else "postgresql")


@pytest.mark.parametrize("name", ["baio", "with space", "50%", "a%20b", "what?", "#1", "ærlig", "a&b=c", "u:p@h"])
def test_the_embedded_database_lies_in_its_directory_whatever_that_is_called(name: str, tmp_path: Path) -> None:
    settings = accepted(DATA_DIR=str(tmp_path / name))
    url = make_url(settings.database)
    assert url.database == str(settings.data_path / "baio.sqlite3") == str(tmp_path / name / "baio.sqlite3")
    assert not url.query


# -- The secret --------------------------------------------------------------------------------------------------------


def test_a_repr_shows_no_secret() -> None:
    settings = Settings.from_environment(POSTGRESQL)
    for shown in (repr(settings), str(settings), f"{settings}", repr([settings])):
        assert SECRET not in shown
        assert "hunter2" not in shown


def test_a_secret_that_is_set_is_used_and_no_file_is_made(tmp_path: Path) -> None:
    settings = accepted(DATA_DIR=str(tmp_path / "data"), SECRET_KEY=SECRET)
    settings.ensure_secret()
    assert settings.secrets() == [SECRET.encode()]
    assert not (tmp_path / "data").exists()


def test_the_embedded_secret_is_made_once_for_its_owners_eyes_alone(tmp_path: Path) -> None:
    settings = accepted(DATA_DIR=str(tmp_path / "a" / "data"))
    settings.ensure_secret()
    [made] = settings.secrets()
    file = settings.data_path / "secret_key"
    assert made == file.read_bytes()
    assert len(made) >= 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    settings.ensure_secret()
    assert settings.secrets() == [made]
    assert [path.name for path in file.parent.iterdir()] == ["secret_key"]
    other = accepted(DATA_DIR=str(tmp_path / "other"))
    other.ensure_secret()
    assert other.secrets() != [made]
    assert not Settings.from_environment({"BAIO_SECRET_KEY": made.decode()})._problems()


def test_many_who_start_at_once_get_one_secret(tmp_path: Path) -> None:
    settings = accepted(DATA_DIR=str(tmp_path / "data"))
    barrier = threading.Barrier(16)

    def start(_: int) -> str:
        barrier.wait()
        settings.ensure_secret()
        return settings.secrets()[0].decode()

    with ThreadPoolExecutor(16) as threads:
        made = set(threads.map(start, range(16)))
    assert made == {(settings.data_path / "secret_key").read_text()}
    assert [path.name for path in settings.data_path.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((settings.data_path / "secret_key").stat().st_mode) == 0o600


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_system_without_hard_links_will_do(error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", link)
    settings = accepted(DATA_DIR=str(tmp_path))
    settings.ensure_secret()
    secret = settings.secrets()
    settings.ensure_secret()
    assert settings.secrets() == secret
    assert [each.name for each in tmp_path.iterdir()] == ["secret_key"]


def test_a_secret_file_that_was_damaged_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    file.write_text("tooshort")
    with pytest.raises(SettingsError) as refused:
        accepted(DATA_DIR=str(tmp_path)).ensure_secret()
    assert str(file) in str(refused.value)
    assert "tooshort" not in str(refused.value).replace(str(file), "")
    assert file.read_text() == "tooshort"

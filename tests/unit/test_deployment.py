"""The files in deploy/ agree with each other, with the Dockerfile and with BAiO's settings."""

import configparser
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from baio_api.server import LAST_CONNECTIONS_SECONDS
from baio_api.settings import FILE_SETTINGS, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
DEFAULTS = Settings()

NAMES = {f"BAIO_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}
NAMES |= {f"BAIO_{name.upper()}_FILE" for name in FILE_SETTINGS}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return found


def test_every_step_of_the_dockerfile_is_one_of_the_script() -> None:
    steps = re.findall(r"(?m)^(\w+)\(\) \{", (DEPLOY / "build.sh").read_text("utf-8"))
    run = re.findall(r"build\.sh (\w+)", "\n".join(re.findall(r"(?m)^RUN .*", DOCKERFILE)))
    assert run == ["packages", "baio", "model", "finish", "finish", "data"]
    assert set(run) == set(steps) - {"pip"}
    done = subprocess.run(["sh", DEPLOY / "build.sh", "rm"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: deploy/build.sh packages|baio|model|finish|data\n")


def test_what_the_dockerfile_copies_is_there_and_gets_into_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copied = [each for line in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE) for each in line.split()]
    assert len(copied) > 6
    for each in copied:
        assert (ROOT / each).exists(), each
        assert any(fnmatch(each, pattern) for pattern in let_through), each


def test_the_container_is_not_root_and_receives_signals_itself() -> None:
    final = DOCKERFILE.split("AS base")[1]
    assert "USER 10001:10001" in final
    assert 'ENTRYPOINT ["/opt/baio/bin/baio"]' in final
    assert "SHELL" not in DOCKERFILE


@pytest.mark.parametrize("file", ["Dockerfile", "deploy/compose.yaml", "deploy/baio.service"])
def test_every_setting_that_is_named_is_one(file: str) -> None:
    text = re.sub(r"(?m)^\s*#.*|\s#.*", "", (ROOT / file).read_text("utf-8"))
    named = set(re.findall(r"\bBAIO_\w+", text))
    assert named
    assert named <= NAMES


def test_whoever_stops_baio_waits_until_it_has_drained(compose: dict[str, Any]) -> None:
    needed = DEFAULTS.drain_seconds + LAST_CONNECTIONS_SECONDS
    unit = (DEPLOY / "baio.service").read_text("utf-8")
    patience = [compose["services"]["baio"]["stop_grace_period"], *re.findall(r"TimeoutStopSec=(\S+)", unit)]
    assert len(patience) == 2
    assert all(int(each.removesuffix("s")) > needed for each in patience)
    assert "KillMode=mixed" in unit


def test_nginx_neither_buffers_nor_gives_up_nor_asks_twice() -> None:
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    directives = dict(re.findall(r"(?m)^\s*(\w+) ([^;{]+);", text))
    assert directives["proxy_buffering"] == directives["proxy_request_buffering"] == "off"
    assert directives["proxy_next_upstream"] == "off"
    silence = DEFAULTS.first_text_seconds + DEFAULTS.thinking_seconds
    assert int(directives["proxy_read_timeout"].removesuffix("s")) > silence
    assert int(directives["client_max_body_size"].removesuffix("m")) * 2**20 > DEFAULTS.max_import_bytes


def test_baio_trusts_nginx_and_nobody_else_in_the_network(compose: dict[str, Any]) -> None:
    services = compose["services"]
    trusted = services["baio"]["environment"]["BAIO_TRUSTED_PROXIES"]
    assert trusted == services["nginx"]["networks"]["front"]["ipv4_address"]
    assert Settings.from_environment({"BAIO_TRUSTED_PROXIES": trusted}).proxies == [trusted]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert "ports" not in services["baio"]
    assert "ports" not in services["database"]


def test_every_service_but_the_database_has_a_read_only_root_and_no_privileges(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name != "database":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
            assert "no-new-privileges:true" in service["security_opt"], name


def test_the_secrets_are_made_once_and_baio_accepts_them(compose: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(["sh", "../secrets.sh"], cwd=tmp_path / "elsewhere", check=True)
    folder = tmp_path / "secrets"
    made = {file.name: file.read_text("ascii") for file in folder.iterdir()}
    assert made.keys() == compose["secrets"].keys()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    environment = compose["services"]["prepare"]["environment"]
    in_secrets = {name: str(folder / Path(value).name) for name, value in environment.items()}
    settings = Settings.from_environment(in_secrets)
    assert settings.secret_key == made["secret_key"]
    assert settings.database_url == f"postgresql://baio:{made['database_password']}@database/baio"
    (folder / "database_url").write_text("postgresql://baio@elsewhere/baio", "ascii")
    subprocess.run(["sh", tmp_path / "secrets.sh"], check=True)
    made["database_url"] = "postgresql://baio@elsewhere/baio"
    assert {file.name: file.read_text("ascii") for file in folder.iterdir()} == made


def test_the_unit_reads_as_systemd_reads_it() -> None:
    lines = [line for line in (DEPLOY / "baio.service").read_text("utf-8").splitlines() if not line.startswith("#")]
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string("\n".join(lines))
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert unit["Service"]["User"] == "baio"
    assert unit["Service"]["NoNewPrivileges"] == unit["Service"]["PrivateTmp"] == "yes"
    assert unit["Service"]["ProtectSystem"] == "strict"
    assert unit["Service"]["CapabilityBoundingSet"] == ""

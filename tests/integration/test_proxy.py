"""Providers behind a proxy, and with certificates of an authority of the installation's own."""

import logging
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from baio_api.container import open_gateways
from baio_api.settings import Settings, SettingsError
from baio_domain.entities import Model
from baio_domain.errors import BaioError, ProviderBroken
from baio_domain.ports import GatewayOptions, LLMGateway
from baio_domain.testing import KEY, PROMPT, check_nothing_leaks
from tests.integration.forward_proxy import Authority, ForwardProxy
from tests.integration.scripted_provider import ScriptedProvider

pytestmark = pytest.mark.anyio

ANSWER = "A codon is three nucleotides."
CREDENTIALS = "canary-user:canary-pass"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: TLS inside TLS is their own work."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that nobody trusts yet."""
    return Authority(tmp_path)


@pytest.fixture
def secure(authority: Authority) -> Iterator[ScriptedProvider]:
    """A provider with HTTPS, whose certificate is for a name that only the proxy resolves."""
    with ScriptedProvider(authority.server("provider.example")) as provider:
        yield provider


def port_of(provider: ScriptedProvider) -> int:
    return urlsplit(provider.base_url).port or 0


def opened(tmp_path: Path, base_url: str, proxy: str = "", protocol: str = "openai", more: str = "") -> LLMGateway:
    """The gateway to a provider at this URL, as an installation with these settings opens it."""
    file = tmp_path / "providers.toml"
    file.write_text(
        f'[[provider]]\nname = "Lab"\nbase_url = "{base_url}"\nprotocol = "{protocol}"\n'
        f'models = [{{ id = "x" }}]\n{more}\n'
    )
    environment = {"BAIO_PROVIDERS_FILE": str(file), "BAIO_PROXY": proxy, "BAIO_LOCAL_MODEL": "off"}
    return open_gateways(Settings.from_environment(environment))["Lab"]


async def answered(gateway: LLMGateway) -> str:
    """The text of an answer."""
    model = Model.of(1, 1, gateway.provider.models[0])
    try:
        async with aclosing(gateway.stream(key=KEY, model=model, prompt=PROMPT)) as stream:
            return "".join([item async for item in stream if isinstance(item, str)])
    finally:
        await gateway.aclose()


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_an_https_provider_is_reached_through_a_tunnel_of_the_proxy(
    authority: Authority, secure: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with ForwardProxy(port_of(secure)) as proxy:
        gateway = opened(tmp_path, "https://provider.example/v1", proxy.url, protocol)
        assert await answered(gateway) == ANSWER
        assert proxy.asked == ["CONNECT provider.example:443 HTTP/1.1"]
    assert not any(name.startswith("proxy") for request in secure.requests for name in request.headers)


async def test_an_http_provider_is_reached_through_the_proxy(provider: ScriptedProvider, tmp_path: Path) -> None:
    with ForwardProxy(port_of(provider)) as proxy:
        assert await answered(opened(tmp_path, "http://provider.example:8080/v1", proxy.url)) == ANSWER
        assert proxy.asked == ["POST http://provider.example:8080/v1/chat/completions HTTP/1.1"]


async def test_the_proxy_itself_may_speak_https(
    authority: Authority, secure: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with ForwardProxy(port_of(secure), CREDENTIALS, authority.server()) as proxy:
        assert await answered(opened(tmp_path, "https://provider.example/v1", proxy.url)) == ANSWER
        assert proxy.asked == ["CONNECT provider.example:443 HTTP/1.1"]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_proxys_user_and_password_are_sent_to_the_proxy_only_and_never_logged(
    authority: Authority,
    secure: ScriptedProvider,
    provider: ScriptedProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    reached = secure if scheme == "https" else provider
    with ForwardProxy(port_of(reached), CREDENTIALS) as proxy:
        assert await answered(opened(tmp_path, f"{scheme}://provider.example/v1", proxy.url)) == ANSWER
        wrong = opened(tmp_path, f"{scheme}://provider.example/v1", proxy.url.replace("canary-pass", "canary-wrong"))
        with pytest.raises(ProviderBroken) as raised:
            await answered(wrong)
        check_nothing_leaks(raised.value)
    [record] = [record for record in caplog.records if record.name == "baio.providers"]
    assert str(vars(record)["status"]) == "407"
    written = caplog.text + "".join(str(vars(each)) for each in caplog.records) + str(raised.value)
    assert "canary-" not in written.replace(KEY, "").replace("canary-of-the-prompt", "")
    for request in reached.requests:
        assert "canary-user" not in str(request.headers)
        assert not any(name.startswith("proxy") for name in request.headers)
    assert "canary" not in repr(GatewayOptions(proxy=f"http://{CREDENTIALS}@proxy.example"))


async def test_without_a_proxy_a_name_that_only_the_proxy_resolves_is_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: ScriptedProvider
) -> None:
    with ForwardProxy(port_of(provider)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with pytest.raises(ProviderBroken):
            await answered(opened(tmp_path, "http://provider.invalid/v1"))
        assert proxy.asked == []


@pytest.mark.parametrize("more", ["", "proxy = false"])
async def test_this_machine_and_a_provider_with_proxy_false_are_reached_directly(
    provider: ScriptedProvider, tmp_path: Path, more: str
) -> None:
    with ForwardProxy(port_of(provider)) as proxy:
        assert await answered(opened(tmp_path, provider.base_url, proxy.url, more=more)) == ANSWER
        if more:
            with pytest.raises(ProviderBroken):
                await answered(opened(tmp_path, "http://provider.invalid/v1", proxy.url, more=more))
        assert proxy.asked == []


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_no_proxy_is_used_to_this_machine(host: str) -> None:
    settings = Settings(proxy="http://proxy.example:3128")
    assert settings.proxy_to(f"http://{host}:8080/v1") is None
    for elsewhere in (None, "https://provider.example/v1", "http://10.0.0.7/v1", "http://localhost.example/v1"):
        assert settings.proxy_to(elsewhere) == "http://proxy.example:3128"


async def test_a_proxy_that_is_down_is_a_broken_provider_and_the_log_says_that_it_is_the_proxy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ProviderBroken):
        await answered(opened(tmp_path, "https://provider.example/v1", f"http://{CREDENTIALS}@127.0.0.1:9"))
    [record] = [record for record in caplog.records if record.name == "baio.providers"]
    said = vars(record)
    assert (said["provider"], said["why"], said["errno"]) == ("Lab", "proxy", "ECONNREFUSED")


async def test_only_an_authority_in_SSL_CERT_FILE_makes_its_servers_trusted_and_the_log_says_why_not(
    authority: Authority,
    secure: ScriptedProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(BaioError) as raised:
        await answered(opened(tmp_path, secure.base_url))
    assert type(raised.value) is ProviderBroken
    [record] = [record for record in caplog.records if record.name == "baio.providers"]
    said = vars(record)
    assert (said["why"], said["errno"]) == ("tls", "CERTIFICATE_VERIFY_FAILED")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    assert await answered(opened(tmp_path, secure.base_url)) == ANSWER
    with pytest.raises(ProviderBroken):  # the certificate is for another name
        await answered(opened(tmp_path, secure.base_url.replace("127.0.0.1", "localhost")))


@pytest.mark.parametrize(
    "url",
    [
        "proxy", "proxy:3128", "socks5://proxy:1080", "http://", "http://proxy:0", "http://proxy:99999",
        "http://proxy/path", "http://proxy?x=1", "http://proxy#x", "http://pro xy", "http://[::1",
    ],
)  # fmt: skip
def test_a_proxy_that_is_none_is_refused_at_the_start_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({"BAIO_PROXY": url})
    assert str(refused.value).startswith("BAIO_PROXY must have the form http://host:port")


def test_a_file_of_certificates_that_can_not_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for path, why in ((tmp_path / "missing.pem", "No such file or directory"), (empty, "")):
        with pytest.raises(SettingsError, match=f"SSL_CERT_FILE must be a file of certificates in PEM: {why}"):
            Settings.from_environment({"SSL_CERT_FILE": str(path)})

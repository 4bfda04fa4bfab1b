"""The sign-in file: what it says, and each of its mistakes with its line."""

from pathlib import Path

import pytest

from baio_adapters.oidc.sign_in_file import (
    Registration,
    SignInFileError,
    is_issuer,
    read_institutions,
    single_institution,
)
from baio_api.container import open_identity_providers
from baio_api.settings import Settings, SettingsError
from baio_domain.identities import ClaimNames, Institution

WHOLE = """
# The university and its federation
[[institution]]
name = "feide"
label = "Feide"
issuer = "https://auth.dataporten.no"
client_id = "1f2e"
client_secret = "s3cret"
client_auth = "client_secret_post"
scopes = ["openid", "userid-feide"]
new_accounts = false
userinfo = false
claims = { username = "https://n.feide.no/claims/eduPersonPrincipalName" }

  [institution.allowed]
  groups = ["a", "b"]
  "https://n.example/affiliation" = ["employee@uib.no"]

[[institution]]
name = "keycloak-2"
label = "Lab"
issuer = "http://127.0.0.1:8080/realms/lab/"
client_id = "baio"
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sign-in.toml"
    file.write_text(text, "utf-8")
    return file


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """What is said of a file, without its name."""
    file = written(tmp_path, text)
    with pytest.raises(SignInFileError) as refused:
        read_institutions(file)
    assert "s3cret" not in str(refused.value)
    return [line.removeprefix(f"{file}").lstrip(": ") for line in str(refused.value).splitlines()]


def test_a_file_is_read_in_its_order_with_what_is_usual_for_the_rest(tmp_path: Path) -> None:
    feide, lab = read_institutions(written(tmp_path, WHOLE))
    allowed = {"groups": frozenset({"a", "b"}), "https://n.example/affiliation": frozenset({"employee@uib.no"})}
    claims = ClaimNames(username="https://n.feide.no/claims/eduPersonPrincipalName")
    institution = Institution("feide", "Feide", "https://auth.dataporten.no", False, allowed, claims)  # noqa: FBT003
    scopes = ("openid", "userid-feide")
    assert feide == Registration(institution, "1f2e", "s3cret", "client_secret_post", scopes, userinfo=False)
    assert lab == Registration(Institution("keycloak-2", "Lab", "http://127.0.0.1:8080/realms/lab/"), "baio")
    assert lab.scopes == ("openid", "profile", "email")
    assert "s3cret" not in repr(feide)


ENTRY = """[[institution]]
name = "uni"
label = "Uni"
issuer = "https://login.example.no"
client_id = "baio"
client_secret = "s3cret"
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["line 1: there is no [[institution]]"]),
        ("[institution]\n", ["line 1: write [[institution]] with two brackets"]),
        ("[[provider]]\n", ["line 1: unknown name 'provider'; only [[institution]] is allowed at the top level"]),
        ("[[institution]]\n", [f"line 1: {each} is missing" for each in ("name", "label", "issuer", "client_id")]),
        (ENTRY + 'secret = "s3cret"\n', ["line 7: unknown field 'secret'; available: name, label, issuer, client_id,"]),
        (ENTRY.replace('"uni"', '"My Uni"'), ["line 2: name: expected `str` matching regex"]),
        (
            ENTRY.replace("https://", "http://"),
            ["line 4: issuer must be an https URL without user, query and fragment"],
        ),
        (ENTRY + 'scopes = ["profile"]\n', ['line 7: scopes must contain "openid"']),
        (ENTRY + 'scopes = ["openid profile"]\n', ["line 7: scopes: expected `str` matching regex"]),
        (ENTRY + "new_accounts = 1\n", ["line 7: new_accounts: expected `bool`, got `int`"]),
        (ENTRY + 'claims = { user = "x" }\n', ["line 7: claims: unknown name 'user'; available: username, email,"]),
        (ENTRY + "allowed = { groups = [] }\n", ["line 7: allowed: expected `array` of length >= 1"]),
        (ENTRY + "\n[institution.allowed]\ngroups = 'x'\n", ["line 8: allowed: expected `array`, got `str`"]),
        (ENTRY + 'client_auth = "none"\n', ["line 7: client_auth: invalid enum value 'none'"]),
        (ENTRY.replace('"s3cret"', '"s3cret with spaces"'), ["line 6: client_secret: expected `str` matching regex"]),
        (ENTRY.replace('"s3cret"', "5"), ["line 6: client_secret: expected `str`, got `int`"]),
        (ENTRY.replace('"s3cret"', '"s3cret'), ["Illegal character '\\n' (at line 6, column 24)"]),
        (
            ENTRY + "\n" + ENTRY.replace("example.no", "example.org"),
            ["line 9: this name is already defined on line 1"],
        ),
        (ENTRY + "\n" + ENTRY.replace("uni", "two"), ["line 11: this issuer is already defined on line 1"]),
    ],
)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = mistakes(tmp_path, text)
    assert len(found) == len(expected), found
    for said, begin in zip(found, expected, strict=True):
        assert said.startswith(begin)


@pytest.mark.parametrize(
    ("url", "valid"),
    [
        ("https://login.example.no", True),
        ("https://login.example.no:8443/a/b/", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080", True),
        ("http://login.example.no", False),
        ("http://127.0.0.1.example.no", False),
        ("https://user@login.example.no", False),
        ("https://login.example.no?", False),
        ("https://login.example.no#a", False),
        ("https://", False),
        ("https://login.example.no:x", False),
        ("https://login.example.no/ ", False),
        ("https://løgin.example.no", False),
        ("ftp://localhost", False),
        ("https://login.example.no/" + "x" * 500, False),
        ("", False),
    ],
)
def test_an_issuer_is_an_https_url_or_on_this_machine(url: str, valid: bool) -> None:  # noqa: FBT001 - a parameter
    assert is_issuer(url) is valid


def test_one_institution_needs_no_file_and_its_mistakes_are_told(tmp_path: Path) -> None:
    found = single_institution(label="Uni", issuer="https://login.example.no", client_id="baio", client_secret="")
    assert (found.institution.name, found.client_secret, found.institution.new_accounts) == ("institution", "", True)
    with pytest.raises(SignInFileError, match="issuer must be an https URL"):
        single_institution(label="Uni", issuer="http://login.example.no", client_id="baio")
    settings = {"BAIO_PUBLIC_URL": "https://baio.example.org/", "BAIO_SIGN_IN_CLIENT_ID": "baio"}
    one = Settings.from_environment({**settings, "BAIO_SIGN_IN_ISSUER": "https://login.example.no"})
    assert one.sign_in_address == "https://baio.example.org/user/finishSignIn/"
    assert [each.label for each in open_identity_providers(one).institutions] == ["Your institution"]
    file = str(written(tmp_path, ENTRY))
    twice = Settings.from_environment(
        {**settings, "BAIO_SIGN_IN_ISSUER": "https://login.example.no", "BAIO_SIGN_IN_FILE": file}
    )
    with pytest.raises(SettingsError, match=r"BAIO_SIGN_IN_ISSUER: .* already has this issuer"):
        open_identity_providers(twice)
    wrong = Settings.from_environment({"BAIO_PUBLIC_URL": "https://x.example", "BAIO_SIGN_IN_FILE": str(tmp_path)})
    with pytest.raises(SettingsError, match=r"BAIO_SIGN_IN_FILE: .* can't be read"):
        open_identity_providers(wrong)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PASSWORD_SIGN_IN": "off"}, "BAIO_PASSWORD_SIGN_IN must be on without institutions"),
        ({"PASSWORD_SIGN_IN": "maybe"}, "BAIO_PASSWORD_SIGN_IN: invalid enum value"),
        ({"SIGN_IN_FILE": "x"}, "BAIO_PUBLIC_URL is required where institutions sign in"),
        ({"SIGN_IN_ISSUER": "https://x.example"}, "BAIO_SIGN_IN_ISSUER and BAIO_SIGN_IN_CLIENT_ID need each other"),
        ({"SIGN_IN_CLIENT_ID": "baio"}, "BAIO_SIGN_IN_ISSUER and BAIO_SIGN_IN_CLIENT_ID need each other"),
        ({"PUBLIC_URL": "baio.example.org"}, "BAIO_PUBLIC_URL must be an http or https URL"),
        ({"PUBLIC_URL": "https://x.example/#a"}, "BAIO_PUBLIC_URL must be an http or https URL"),
        ({"PUBLIC_URL": "https://x.example/?a=b"}, "BAIO_PUBLIC_URL must be an http or https URL"),
    ],
)
def test_settings_that_would_sign_nobody_in_are_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.from_environment({f"BAIO_{name}": value for name, value in environment.items()})

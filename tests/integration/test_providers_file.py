"""Providers that an administrator adds, in the providers file or by the name of a preset."""

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import aclosing
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from baio_adapters.llm.anthropic import ANTHROPIC
from baio_adapters.llm.openai import OPENAI, QUIRKS, OpenAIGateway
from baio_adapters.llm.providers_file import PRESETS, ProvidersFileError, read_prices, read_providers
from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.parameters import Accepted
from baio_domain.ports import GatewayOptions
from baio_domain.prices import Price
from baio_domain.prompts import Turn
from tests.integration.conftest import NewDatabase, settings_for
from tests.integration.scripted_provider import Exchange, ScriptedProvider, echo, models, redirect, refuse
from tests.integration.servers import User, baio, named, problem, running_server

# -- The file ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "providers.toml"


def errors_in(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(ProvidersFileError) as raised:
        read_providers(file)
    lines = str(raised.value).splitlines()
    assert all(line.startswith(str(file)) for line in lines)
    return [line.removeprefix(str(file)).lstrip(" :") for line in lines]


def test_a_provider_has_the_files_values_and_defaults_for_the_rest(file: Path) -> None:
    file.write_text(
        """
        [[provider]]
        name = "Lab server"
        base_url = "http://gpu1:8080/v1"
        models = [
            { id = "llama", name = "Llama", context = 4096, answer = 512, system_role = false, tools = true },
            { id = "bare" },
        ]
        quirks = ["no-stream-options"]

        [[provider]]
        name = "Open"
        base_url = "https://open.example.org/v1"
        protocol = "anthropic"
        models = "ask"
        """
    )
    lab, opened = read_providers(file)
    assert lab.provider == ProviderSpec(
        "Lab server",
        (
            ModelSpec("llama", "Llama", 4096, 512, system_role=False, tools=True),
            ModelSpec("bare", "bare", 8192, 2048),
        ),
    )
    assert (lab.base_url, lab.protocol, lab.quirks, lab.line) == (
        "http://gpu1:8080/v1",
        "openai",
        frozenset({"no-stream-options"}),
        2,
    )
    assert opened.provider == ProviderSpec("Open", (), open_ended=True)
    assert (opened.protocol, opened.quirks) == ("anthropic", frozenset())


def test_every_error_is_reported_with_its_line(file: Path) -> None:
    found = errors_in(
        file,
        """title = "x"
[[provider]]
name = "One"
base_url = "ftp://example.org"
models = []

[[provider]]
nam = "Two"
base_url = "https://user:secret@example.org"
models = [{ id = "x", contxt = 1 }]
quirks = "none"

[[provider]]
name = "one"
base_url = "https://example.org"
models = "all"
protocol = 7
""",
    )
    assert [int(re.match(r"line (\d+): ", line)[1]) for line in found] == [1, 5, 4, 7, 8, 10, 11, 9, 16, 17, 14]  # type: ignore[index]
    assert "secret" not in "\n".join(found)
    assert found[0] == "line 1: unknown name 'title'; only [[provider]] and [[price]] are allowed at the top level"
    assert found[3] == "line 7: name is missing"
    assert (
        found[4]
        == "line 8: unknown field 'nam'; available: name, base_url, protocol, models, quirks, proxy, parameters"
    )
    assert found[-1] == "line 14: provider 'one' is already defined on line 2"


@pytest.mark.parametrize("text", ["[[provider]\n", "[[provider]]\nname = 'x\n", '[provider]\nname = "x"\n', "x ="])
def test_invalid_toml_or_a_single_table_is_one_line_that_says_where(file: Path, text: str) -> None:
    [found] = errors_in(file, text)
    assert "line" in found


def test_a_file_that_is_missing_or_not_text_is_one_line(file: Path) -> None:
    with pytest.raises(ProvidersFileError, match="can't be read: No such file"):
        read_providers(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ProvidersFileError, match="can't be read: not UTF-8"):
        read_providers(file)


def test_a_file_that_was_saved_on_windows_is_read(file: Path) -> None:
    text = """[[provider]]
name = "Lab server"
base_url = "http://gpu1:8080/v1"
models = "ask"
"""
    file.write_text(text, encoding="utf-8-sig", newline="\r\n")
    [lab] = read_providers(file)
    assert (lab.provider.name, lab.line) == ("Lab server", 1)


@pytest.mark.parametrize("end", ["/chat/completions", "/chat/completions/", "/messages"])
def test_an_address_with_the_path_that_baio_adds_is_a_mistake(file: Path, end: str) -> None:
    text = f"""[[provider]]
name = "Lab server"
base_url = "http://gpu1:8080/v1{end}"
models = "ask"
"""
    assert errors_in(file, text) == [f"line 3: base_url must end before {end}, which BAiO adds"]


def test_the_presets_have_no_errors() -> None:
    presets = read_providers(PRESETS)
    assert [each.provider.name for each in presets] == ["Gemini", "Mistral", "Groq", "DeepSeek", "OpenRouter", "Ollama"]
    assert all(each.quirks <= QUIRKS for each in presets)
    assert all(each.provider.open_ended or each.provider.models for each in presets)


def test_parameters_are_those_of_the_file_over_those_of_the_protocol(file: Path) -> None:
    file.write_text(
        """
        [[provider]]
        name = "Lab"
        base_url = "http://gpu1:8080/v1"
        models = [{ id = "a" }, { id = "b", parameters = { temperature = false, reasoning_effort = true } }]
        parameters = { temperature = { most = 1.5 }, seed = { sent_as = "random_seed" }, reasoning_effort = false }
        """
    )
    [entry] = read_providers(file)
    provider = OpenAIGateway(GatewayOptions(provider=entry.provider)).provider
    tokens = Accepted("max_tokens")
    assert provider.accepted("a") == {
        "temperature": Accepted(most=1.5),
        "top_p": Accepted(),
        "max_output_tokens": tokens,
        "seed": Accepted("random_seed"),
    }
    assert list(provider.accepted("b")) == ["top_p", "max_output_tokens", "reasoning_effort", "seed"]


def test_mistakes_in_parameters_are_reported_with_their_line(file: Path) -> None:
    head = '[[provider]]\nname = "Lab"\nbase_url = "http://gpu1:8080/v1"\n'
    for line in (
        "parameters = { top_k = { most = 40 } }",
        "parameters = { seed = 7 }",
        'parameters = { seed = { sent_as = "a b" } }',
        "parameters = { reasoning_effort = { levels = [] } }",
        "parameters = { seed = { max = 40 } }",
    ):
        [found] = errors_in(file, f'{head}models = "ask"\n{line}\n')
        assert found.startswith("line 5: parameters: ")
    [found] = errors_in(file, f'{head}models = [{{ id = "x", parameters = {{ top_k = true }} }}]\n')
    assert found.startswith("line 4: models: ")


def test_a_price_has_the_files_exact_values(file: Path) -> None:
    file.write_text(
        """
        [[price]]
        provider = "OpenAI"
        model = "gpt-4o"
        from = 2026-01-31
        currency = "nok"
        in = 0.1
        out = 3
        """
    )
    assert read_prices(file) == [Price("OpenAI", "gpt-4o", date(2026, 1, 31), "NOK", Decimal("0.1"), Decimal(3))]
    assert read_providers(file) == []


def test_every_error_in_a_price_is_reported_with_its_line(file: Path) -> None:
    found = errors_in(
        file,
        """[[price]]
provider = "OpenAI"
model = 4
from = "2026-01-31"
currency = "USD"
in = "0.15"
out = true
cached = 1

[[price]]
provider = "OpenAI"
model = "x"
from = 2026-01-31T00:00:00Z
currency = "dollars"

[[price]]
provider = "OpenAI"
model = "x"
from = 2026-01-31
currency = "dollars"
in = -1
out = nan
cached_in = 0.1234567891
""",
    )
    assert found == [
        "line 3: model: expected `str`, got `int`",
        "line 4: from: write a date such as 2026-01-31, without quotes",
        "line 6: in: write a number",
        "line 7: out: write a number",
        "line 8: unknown field 'cached'; available: provider, model, from, currency, in, out, cached_in",
        "line 10: in is missing",
        "line 10: out is missing",
        "line 13: from: write a date such as 2026-01-31, without quotes",
        "line 16: currency must be three letters, such as USD",
        "line 16: in must be 0 to 1,000,000",
        "line 16: out must be 0 to 1,000,000",
        "line 16: cached_in must have at most 9 digits after the point",
    ]


def test_the_prices_that_come_with_baio_are_of_models_that_it_offers() -> None:
    offered = {(spec.name, model.identifier) for spec in (OPENAI, ANTHROPIC) for model in spec.models}
    assert {(price.provider, price.model) for price in read_prices(PRESETS)} <= offered


# -- A server with providers from a file -------------------------------------------------------------------------------


def described(provider: ScriptedProvider, more: str = "") -> str:
    return f"""
[[provider]]
name = "Lab"
base_url = "{provider.base_url}"
models = [{{ id = "lab-1", name = "Lab One" }}, {{ id = "lab-whole", streaming = false }}]
quirks = ["no-stream-options", "no-keep-alive"]

[[provider]]
name = "Asked"
base_url = "{provider.base_url}"
models = "ask"
{more}"""


@pytest.fixture(scope="module")
def environment(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    file = tmp_path_factory.mktemp("providers") / "providers.toml"
    file.write_text(described(provider))
    made = {**settings_for(new_database.prepared(), provider), "BAIO_PROVIDERS_FILE": str(file)}
    loaded = baio(made, "load_llm_data")
    assert loaded.returncode == 0, loaded.stderr
    assert "added provider Lab" in loaded.stdout
    assert "up to date" in baio(made, "load_llm_data").stdout
    return made


@pytest.fixture(scope="module")
def someone(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user with a key for each of the file's providers."""
    with running_server(tmp_path_factory.mktemp("server"), environment) as running:
        user = User(running)
        for name in ("Lab", "Asked"):
            body = {"key": f"key-of-{name}", "nickname": name, "provider": name}
            assert user.http.post("/chat/addAPIKey/", json=body).status_code == 201
        yield user
        user.http.close()


def test_a_provider_of_the_file_is_asked_according_to_its_quirks(someone: User, provider: ScriptedProvider) -> None:
    asked = someone.ask(someone.begin(), apikey_nickname="Lab", model="lab one")
    assert (asked.status_code, asked.text) == (200, "A codon is three nucleotides.")
    request = provider.requests[-1]
    assert request.headers["authorization"] == "Bearer key-of-Lab"
    assert (request.body["model"], request.body["stream"]) == ("lab-1", True)
    assert "stream_options" not in request.body
    someone.ask(someone.begin(), apikey_nickname="Lab", model="lab-1")
    assert len({id(each.writer) for each in provider.exchanges}) == 2


async def not_streamed(exchange: Exchange) -> None:
    """Answer in one piece."""
    await exchange.head(content_type="application/json")
    await exchange.chunk(
        b'{"model":"lab-whole-2","choices":[{"message":{"content":"Three."},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":1}}'
    )
    await exchange.end()


def test_a_model_that_does_not_stream_is_asked_for_its_answer_in_one_piece(
    someone: User, provider: ScriptedProvider
) -> None:
    provider.script(not_streamed)
    conversation = someone.begin()
    assert someone.ask(conversation, apikey_nickname="Lab", model="lab-whole").text == "Three."
    assert "stream" not in provider.requests[-1].body
    record = someone.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()[0]
    assert (record["model"], record["finish_reason"], record["completion_tokens"]) == ("lab-whole-2", "stop", 1)


def test_a_base_url_that_redirects_is_not_followed(someone: User, provider: ScriptedProvider) -> None:
    provider.script(redirect(f"{provider.base_url}/elsewhere"))
    problem(someone.ask(someone.begin(), apikey_nickname="Lab", model="lab-1"), 502)
    assert len(provider.requests) == 1


def test_an_unknown_provider_is_named(someone: User) -> None:
    body = {"key": "sk-0123456789", "nickname": "Another", "provider": "nobody"}
    assert named(someone.http.post("/chat/addAPIKey/", json=body)) == {"provider"}


def test_one_users_rate_limit_at_a_provider_affects_nobody_else(someone: User, provider: ScriptedProvider) -> None:
    other = User(someone.server)
    other.http.post("/chat/addAPIKey/", json={"key": "key-of-other", "nickname": "Lab", "provider": "Lab"})
    provider.script(refuse(429, retry_after=3600))
    limited = someone.ask(someone.begin(), apikey_nickname="Lab", model="lab-1")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3600")
    assert other.ask(other.begin(), apikey_nickname="Lab", model="lab-1").status_code == 200
    assert someone.ask(someone.begin(), apikey_nickname="Lab", model="lab-1").status_code == 200
    other.http.close()


def catalogue(user: User, name: str) -> dict[str, int]:
    """The ids of a provider's models by name."""
    listed = user.http.get("/chat/getLLMProviders/").json()
    return next({model["name"]: model["id"] for model in each["models"]} for each in listed if each["name"] == name)


def test_models_of_an_open_ended_provider_are_synchronized_and_keep_their_ids(
    someone: User, provider: ScriptedProvider, environment: dict[str, str]
) -> None:
    assert catalogue(someone, "Asked") == {}
    keyed = {**environment, "A_KEY": "key-for-sync", "ANOTHER": "key-of-openai"}
    provider.models = models("asked-1", "asked-2", context_length=4096)
    synced = baio(keyed, "load_llm_data", "--sync", "--key-env", "Asked=A_KEY", "--key-env", "openai=ANOTHER")
    assert synced.returncode == 0, synced.stderr
    assert "added model Asked asked-1" in synced.stdout
    assert "OpenAI does not list gpt-4o: it may refuse questions to it" in synced.stdout
    assert "key-for-sync" not in synced.stdout + synced.stderr
    keys = {each.headers["authorization"] for each in provider.requests}
    assert keys == {"Bearer key-for-sync", "Bearer key-of-openai"}
    first = catalogue(someone, "Asked")
    assert list(first) == ["asked-1", "asked-2"]
    assert list(catalogue(someone, "OpenAI"))[:4] == ["GPT-4o", "GPT-4o mini", "OpenAI o1-preview", "OpenAI o1-mini"]
    assert someone.ask(someone.begin(), apikey_nickname="Asked", model="asked-1").status_code == 200

    provider.models = models("asked-2", "asked-3", context_length=4096)
    assert "retired model Asked asked-1" in baio(keyed, "load_llm_data", "--sync").stdout
    second = catalogue(someone, "Asked")
    assert list(second) == ["asked-2", "asked-3"]
    assert second["asked-2"] == first["asked-2"]
    assert second["asked-3"] > max(first.values())
    refused = problem(someone.ask(someone.begin(), apikey_nickname="Asked", model="asked-1"))
    assert refused["detail"] == "model: asked-1 is no longer offered; accepted: asked-2, asked-3"

    assert "up to date" in baio(environment, "load_llm_data").stdout
    provider.models = refuse(500)
    failed = baio(keyed, "load_llm_data", "--sync")
    assert "Asked could not be asked for its models" in failed.stdout
    assert catalogue(someone, "Asked") == second


@pytest.mark.parametrize("given", ["A_KEY", "Asked=NOT_SET", "=A_KEY", "Asked="])
def test_a_malformed_key_option_is_refused(environment: dict[str, str], given: str) -> None:
    refused = baio({**environment, "A_KEY": "key-for-sync"}, "load_llm_data", "--sync", "--key-env", given)
    assert refused.returncode == 2
    assert "key-for-sync" not in refused.stderr


WRONG = {
    "an error": ('[[provider]]\nname = "x"\n', "line 1: base_url is missing"),
    "a name that is taken": (
        '[[provider]]\nname = "openai"\nbase_url = "https://example.org"\nmodels = "ask"\n',
        "line 1: there is already a provider openai",
    ),
    "an unknown protocol": (
        '\n[[provider]]\nname = "x"\nbase_url = "https://example.org"\nmodels = "ask"\nprotocol = "gopher"\n',
        "line 2: unknown gateway 'gopher'; available: anthropic, ",
    ),
    "an unknown quirk": (
        '[[provider]]\nname = "x"\nbase_url = "https://example.org"\nmodels = "ask"\nquirks = ["odd"]\n',
        "line 1: unknown quirk 'odd'; available: no-keep-alive, ",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_with_an_invalid_file_does_not_start_and_one_line_says_why(
    environment: dict[str, str], file: Path, wrong: str
) -> None:
    text, why = WRONG[wrong]
    file.write_text(text)
    refused = baio({**environment, "BAIO_PROVIDERS_FILE": str(file)}, "runserver", "--port", "0")
    assert refused.returncode == 2
    assert why in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_presets_are_enabled_by_name(environment: dict[str, str]) -> None:
    loaded = baio({**environment, "BAIO_PROVIDERS": "groq, OLLAMA"}, "load_llm_data")
    assert re.findall("added provider (.+) \\(", loaded.stdout) == ["Groq", "Ollama"]
    refused = baio({**environment, "BAIO_PROVIDERS": "groq,nobody"}, "runserver", "--port", "0")
    assert refused.returncode == 2
    assert "BAIO_PROVIDERS: unknown provider nobody; available: gemini, mistral" in refused.stderr


# -- Keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_ten_thousand_questions_with_different_keys_are_all_sent_with_their_own(
    provider: ScriptedProvider,
) -> None:
    provider.always(echo())
    gateway = OpenAIGateway(GatewayOptions(base_url=provider.base_url))
    model = Model.of(1, 1, gateway.provider.models[0])
    numbers = list(range(10_000))
    random.shuffle(numbers)
    waiting = iter(numbers)
    wrong: list[int] = []

    async def ask_some() -> None:
        for number in waiting:
            prompt = [Turn("user", f"question {number}")]
            async with aclosing(gateway.stream(key=f"key-{number}", model=model, prompt=prompt)) as stream:
                text = "".join([item async for item in stream if isinstance(item, str)])
            if f"question {number}" not in text:
                wrong.append(number)

    await asyncio.gather(*(ask_some() for _ in range(100)))
    await gateway.aclose()
    assert wrong == []
    asked = {each.body["messages"][0]["content"]: each.headers["authorization"] for each in provider.requests}
    assert asked == {f"question {number}": f"Bearer key-{number}" for number in numbers}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"

"""The composition root, which no type checker sees inside: everything in it can be built, from the right parts."""

import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path

import pytest
from dependency_injector import providers

from baio_adapters.llm.scripted import ScriptedGateway
from baio_adapters.memory import MemoryDatabase
from baio_adapters.sql.database import SqlDatabase
from baio_api.container import USE_CASES, Container
from baio_api.settings import Settings
from baio_domain import use_cases
from baio_domain.answering import Answering
from baio_domain.ports import Clock, Database, LLMGateway, PasswordHasher, SecretBox, TokenIssuer
from tests.unit.test_settings import SECRET

PORTS = {"clock": Clock, "database": Database, "hasher": PasswordHasher, "tokens": TokenIssuer, "box": SecretBox}


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'baio.sqlite3'}", secret_key=SECRET)
    container = Container(settings=settings)
    yield container
    for gateway in container.gateways().values():
        await gateway.aclose()
    container.database().close()


async def test_every_provider_can_be_built_and_is_built_once(container: Container) -> None:
    names = list(container.providers)
    assert len(names) > 25
    for name in names:
        built = getattr(container, name)()
        assert built is not None, name
        assert getattr(container, name)() is built, name
    assert not isinstance(container.answering(), providers.Provider)


async def test_each_port_is_played_by_an_adapter(container: Container) -> None:
    for name, port in PORTS.items():
        adapter = getattr(container, name)()
        assert port in type(adapter).__mro__, name
    for gateway in container.gateways().values():
        assert LLMGateway in type(gateway).__mro__
    assert isinstance(container.database(), SqlDatabase)


async def test_every_use_case_is_given_what_its_fields_ask_for(container: Container) -> None:
    for name in [*USE_CASES, "starter"]:
        use_case = getattr(container, name)()
        assert type(use_case).__module__.startswith(use_cases.__name__), name
        for field in fields(use_case):
            given = getattr(use_case, field.name)
            assert not isinstance(given, providers.Provider), (name, field.name)
            if isinstance(field.type, type):
                assert field.type in type(given).__mro__, (name, field.name)


async def test_all_use_cases_share_one_database_and_one_answering(container: Container) -> None:
    for name in USE_CASES:
        use_case = getattr(container, name)()
        if hasattr(use_case, "database"):
            assert use_case.database is container.database(), name
        if hasattr(use_case, "answering"):
            assert use_case.answering is container.answering(), name
    assert isinstance(container.answering(), Answering)
    assert container.starter().gateways is container.gateways()


def test_every_use_case_of_the_domain_has_its_place_in_the_container() -> None:
    in_the_domain = {
        each
        for module in pkgutil.iter_modules(use_cases.__path__)
        for each in vars(importlib.import_module(f"{use_cases.__name__}.{module.name}")).values()
        if inspect.isclass(each) and each.__module__.startswith(use_cases.__name__) and "__call__" in vars(each)
    }
    assert len(in_the_domain) > 40
    assert {getattr(Container.providers[name], "cls", None) for name in USE_CASES} == in_the_domain


async def test_adapters_can_be_exchanged_before_anything_is_built() -> None:
    database, gateway = MemoryDatabase(), ScriptedGateway()
    container = Container(settings=Settings(secret_key=SECRET))
    container.database.override(providers.Object(database))
    container.gateways.override(providers.Object({"Scripted": gateway}))
    await container.load_catalogue()([gateway.provider])
    assert [provider.name for provider in await database.read(lambda tx: tx.catalogue.providers())] == ["Scripted"]
    assert container.send_message().starter.gateways == {"Scripted": gateway}


async def test_settings_reach_what_they_set(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=str(tmp_path),
        secret_key=SECRET,
        first_text_seconds=1,
        between_text_seconds=2,
        answer_seconds=3,
        max_answer_chars=4,
        answers_per_user=5,
        thinking_seconds=6,
        on_disconnect="stop",
    )
    container = Container(settings=settings)
    limits = container.answering()._limits
    assert (limits.first_text_seconds, limits.between_text_seconds) == (1, 2)
    assert (limits.answer_seconds, limits.max_chars, limits.thinking_seconds) == (3, 4, 6)
    assert container.starter().answers_per_user == 5
    assert container.leave_answer().stops is True
    for gateway in container.gateways().values():
        await gateway.aclose()
    container.database().close()

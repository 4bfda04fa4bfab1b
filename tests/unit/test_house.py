"""The rules of the house that no linter knows."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import baio_domain
from baio_domain import use_cases

SRC = Path(baio_domain.__file__).parents[1]
SOURCES = sorted(SRC.glob("baio_*/**/*.py"))
DOMAIN = [path for path in SOURCES if path.is_relative_to(SRC / "baio_domain")]


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# Isolated, and without site-packages: what is imported comes from src or from Python itself.
LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
foreign = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
print(*sorted(foreign - {"__main__"}))
"""


def loaded_without_anything_installed(modules: list[str]) -> list[str]:
    command = [sys.executable, "-I", "-S", "-c", LOAD, str(SRC), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_domain_needs_nothing_but_python() -> None:
    modules = [module_of(path) for path in DOMAIN]
    modules.remove("baio_domain.testing")  # the contract for gateways is for those who have pytest
    assert len(modules) > 8
    assert loaded_without_anything_installed(modules) == ["baio_domain"]


def test_the_adapters_for_tests_need_nothing_but_python_and_the_domain() -> None:
    modules = [
        "baio_adapters.memory", "baio_adapters.llm.scripted", "baio_adapters.scripted_tools", "baio_adapters.clock",
    ]  # fmt: skip
    assert loaded_without_anything_installed(modules) == ["baio_adapters", "baio_domain"]


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert said
    assert said.splitlines()[0].endswith((".", ":", "?")), said.splitlines()[0]


def acts() -> list[type]:
    found: list[type] = []
    for info in pkgutil.iter_modules(use_cases.__path__):
        module = importlib.import_module(f"{use_cases.__name__}.{info.name}")
        found += [
            each for each in vars(module).values()
            if inspect.isclass(each) and each.__module__ == module.__name__ and "__call__" in vars(each)
        ]  # fmt: skip
    return found


@pytest.mark.parametrize("act", acts(), ids=lambda act: act.__name__)
def test_a_use_case_is_a_frozen_and_slotted_dataclass_whose_call_is_its_one_act(act: type) -> None:
    assert dataclasses.is_dataclass(act)
    assert act.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert hasattr(act, "__slots__")
    public = [name for name in vars(act) if not name.startswith("_")]
    assert sorted(public) == sorted(field.name for field in dataclasses.fields(act))
    # Routes show it as the description of their operation.
    assert inspect.getdoc(act)
    assert inspect.getdoc(vars(act)["__call__"])


def test_units_of_work_are_plain_functions() -> None:
    for path in DOMAIN:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.AsyncFunctionDef):
                arguments = [argument.annotation for argument in node.args.args]
                names = [each.id for each in arguments if isinstance(each, ast.Name)]
                assert "Transaction" not in names, f"{path.name}: {node.name}"


OUTSIDE_WORDS = re.compile(
    r"`baio \w+|Idempotency-Key|Last-Event-ID|Retry-After|Authorization|BAIO_|/(?:user|chat)/|HTTP|"
    r"\b(?:register|auth|send|get|add|rename|delete|create|enroll|confirm|disable|test|follow|stop)"
    r"(?:Message|Conversation|Conversations|APIKey|ApiKeys|TwoFactor|Answer|Answers|Info|Credentials)\b"
)


@pytest.mark.parametrize("path", DOMAIN, ids=module_of)
def test_the_domain_names_no_command_header_setting_or_endpoint(path: Path) -> None:
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    # What fingerprints of requests were made with stays: a request that is repeated across an upgrade is recognised.
    fingerprints = {"addAPIKey", "createConversation", "sendMessage"}
    assert [text for text in strings if OUTSIDE_WORDS.search(text) and text not in fingerprints] == []


def test_there_are_use_cases_to_look_at() -> None:
    assert len(acts()) > 15

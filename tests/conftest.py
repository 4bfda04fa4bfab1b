"""The order of the tests: random, and the same in every process of a run that spreads over several.

A seed decides the order; the header of every run names it, and ``--order-seed`` repeats it. What is shuffled are the
tests of a module on one database, which share expensive fixtures, and then those units. A module whose tests build on
each other keeps its order (``written_order``). With pytest-xdist a process
takes one unit after the other.
"""

import gc
import random
import re

import pytest

FIRST = (
    "test_crash.py",
    "test_database_trouble.py",
    "test_chat.py",
    "test_accounts.py",
    "test_survival.py",
    "test_server.py",
    "test_embedded_model.py",
    "test_ownership.py",
    "test_store_contract.py",
    "test_bad_input.py",
)
"""Modules that take longest: they begin at once, so that the others run beside them and none is left for the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--order-seed", type=int, metavar="N", help="repeat the order of a run that named this seed")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.order_seed is None:
        of_the_run = getattr(config, "workerinput", {})  # in a process of pytest-xdist
        config.option.order_seed = of_the_run.get("order_seed", random.randrange(10**6))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    node.workerinput["order_seed"] = node.config.option.order_seed  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    """Leave what was collected out of garbage collections: thousands of tests, which stay to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)  # tests make many objects that are needed no more, and few cycles


def pytest_report_header(config: pytest.Config) -> str:
    return f"order of the tests: --order-seed={config.option.order_seed}"


def unit_of(nodeid: str) -> str:
    """The unit that a test belongs to: its module, and the database that it runs on if it has parameters."""
    module, _, test = nodeid.partition("::")
    database = re.search(r"[\[-](sqlite|postgresql)[-\]]", test)
    return f"{module} {database[1] if database else ''}"


@pytest.hookimpl(trylast=True)  # after pytest itself, which would put all tests on SQLite first
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.option.order_seed

    def chance(name: str) -> float:
        return random.Random(f"{seed} {name}").random()

    def place(item: pytest.Item) -> tuple[int, float, float]:
        unit = unit_of(item.nodeid)
        first = FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST)
        in_written_order = item.get_closest_marker("written_order") is not None
        return first, chance(unit), written[item] if in_written_order else chance(item.nodeid)

    written = {item: index for index, item in enumerate(items)}
    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # in the order from above
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = unit_of
    return scheduling

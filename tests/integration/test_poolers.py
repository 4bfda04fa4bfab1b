"""PostgreSQL behind a pooler that shares sessions: such a pooler does not pass the options of a connection on."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

from baio_adapters.sql.poolers import configure, marked
from tests.integration.conftest import NewDatabase, on_postgresql

SETTINGS = {"timezone": "UTC", "lock_timeout": "5s"}


@pytest.fixture(params=[False, True], ids=["through a pooler", "directly"])
def engine(new_database: NewDatabase, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine whose connections have the options only if they are direct."""
    arguments = {"options": marked() if request.param else "-c timezone=Asia/Tokyo"}
    url = make_url(new_database()).set(drivername="postgresql+psycopg")
    made = create_engine(url, poolclass=NullPool, connect_args=arguments)
    configure(made, SETTINGS)
    yield made
    made.dispose()


@on_postgresql
def test_settings_hold_in_every_transaction(engine: Engine) -> None:
    with engine.connect() as connection:
        for _ in range(2):
            with connection.begin():
                found = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in SETTINGS]
            assert found == list(SETTINGS.values())


@on_postgresql
def test_statements_are_prepared_only_on_direct_connections(engine: Engine, request: pytest.FixtureRequest) -> None:
    with engine.connect() as connection:
        for number in range(10):
            with connection.begin():
                connection.exec_driver_sql("SELECT %s::int", (number,))
        prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
    assert (prepared > 0) == ("directly" in request.node.name)

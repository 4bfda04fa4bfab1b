"""``baio doctor``: what an administrator would check, a line each. It changes nothing."""

import asyncio
import os
import platform
import shutil
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from sqlalchemy import Connection, func, make_url, select, text

from baio_adapters.sql.database import engine_for
from baio_adapters.sql.tables import audit, second_factors, users
from baio_adapters.sql.trouble import reported
from baio_api.container import Container
from baio_api.private_files import unusable_folder, written_files
from baio_api.secret_file import SecretFileError
from baio_api.settings import Settings
from baio_domain.errors import BaioError, KeyRefused, TooMany
from baio_domain.text import folded, quoted

MIN_FREE_BYTES = 500_000_000
"""A disk with less room than this is about to be full."""

MIN_DESCRIPTORS = 1024
"""Each client and each of its provider's connections takes a descriptor."""

MAX_CLOCK_DIFFERENCE = timedelta(seconds=30)
"""As far as the clocks of the server and its database may differ; authenticator apps allow as much."""

MAX_NAMED = 5
"""Accounts that are named in one line."""

ONLINE_SECONDS = 20.0
"""How long a provider may take to answer."""


NONE_YET = "none yet; the first start makes it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: its name, what was found, and whether that is right."""

    name: str
    found: str
    good: bool = True


async def findings(settings: Settings, *, online: Collection[str] | None) -> AsyncIterator[Finding]:
    """Everything that was checked, in the order of an installation.

    ``online`` names the providers that are asked for an answer; empty means all, and None means none.
    """
    yield Finding("versions", f"BAiO {version('baio')}, Python {platform.python_version()}, {platform.platform()}")
    unusable = unusable_folder(settings)
    for finding in [_no_folder(unusable)] if unusable else [*_data_folder(settings), _secret(settings)]:
        yield finding
    container = Container(settings=settings)
    try:
        if not unusable:
            async for finding in _database(settings, container):
                yield finding
        yield _descriptors()
        proxies = ", ".join(settings.proxies) or "none: each sender counts as a client (BAIO_TRUSTED_PROXIES)"
        yield Finding("proxies", proxies)
        async for finding in _institutions(container, online=online is not None):
            yield finding
        async for finding in _providers(container, online=online):
            yield finding
    finally:
        container.database().close()
        await container.identity_providers().aclose()


def _data_folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_path
    try:
        found = folder.stat()
        free = shutil.disk_usage(folder).free
    except FileNotFoundError:
        if settings.embedded:  # nothing else needs it
            yield Finding("data folder", f"{folder}: {NONE_YET}")
        return
    except OSError as error:
        yield _no_folder(f"{folder}: {error.strerror or error}")
        return
    mode, writable = stat.S_IMODE(found.st_mode), os.access(folder, os.W_OK | os.X_OK)
    private = sys.platform == "win32" or not mode & 0o077
    wrong = "" if writable else "; it can't be written"
    wrong += "" if private else "; other users can enter it (chmod 700)"
    yield Finding("data folder", f"{folder}, mode {mode:04o}{wrong}", good=not wrong)
    if sys.platform != "win32":
        exposed = [path.name for path in written_files(settings) if path.exists() and path.stat().st_mode & 0o077]
        said = f"other users can read {', '.join(exposed)} (chmod 600)" if exposed else "only their owner can read them"
        yield Finding("files", said, good=not exposed)
    yield Finding("disk space", f"{free / 1e9:.1f} GB free", good=free >= MIN_FREE_BYTES)


def _no_folder(why: str) -> Finding:
    return Finding("data folder", why, good=False)


def _secret(settings: Settings) -> Finding:
    if settings.secret_key:
        return Finding("secret", "set by BAIO_SECRET_KEY")
    try:
        count = len(settings.secret_file.read())
    except SecretFileError as error:
        if not settings.secret_file.path.exists():
            return Finding("secret", NONE_YET)
        return Finding("secret", str(error), good=False)
    former = f", and {count - 1} former ones (baio rotate_keys --forget-old)" if count > 1 else ""
    return Finding("secret", f"{settings.secret_file.path}{former}")


async def _database(settings: Settings, container: Container) -> AsyncIterator[Finding]:
    where = make_url(settings.database).render_as_string(hide_password=True)
    if settings.database_file and not await asyncio.to_thread(settings.database_file.exists):
        yield Finding("database", f"{where}: {NONE_YET}")
        return
    try:
        yield await asyncio.to_thread(_look_inside, settings, where)
        await container.database().check()
        yield Finding("schema", "the newest")
        await container.database().check_writable()
        yield Finding("writing", "possible")
        yield _clock(await asyncio.to_thread(_newest_entry, settings))
        yield _administrators(await asyncio.to_thread(_unprotected_administrators, settings))
        known = await container.database().read(lambda tx: tx.catalogue.providers())
        models = sum(len(each.models) for each in known)
        yield Finding(
            "catalogue",
            f"{len(known)} providers, {models} models" if models else "empty: run `baio load_llm_data`",
            good=bool(models),
        )
        unreadable = await container.count_unreadable_secrets()() if _has_secret(settings) else 0
        yield Finding(
            "stored keys",
            f"{unreadable} can't be decrypted: their owners must add them again"
            if unreadable
            else "all can be decrypted",
            good=not unreadable,
        )
    except BaioError as error:
        yield Finding("database", f"{where}: {error.detail}", good=False)


def _has_secret(settings: Settings) -> bool:
    return bool(settings.secret_key) or settings.secret_file.path.exists()


def _look_inside(settings: Settings, where: str) -> Finding:
    """The database's version, whether it is whole, and on another machine whether its clock is ours."""
    engine = engine_for(settings.database, begin="BEGIN")
    try:
        with reported(), engine.connect() as connection:
            if settings.embedded:
                damage = connection.execute(text("PRAGMA quick_check(1)")).scalar()
                whole = "whole" if damage == "ok" else "damaged: restore a backup (baio restore)"
                return Finding("database", f"{where}, SQLite {sqlite3.sqlite_version}, {whole}", good=damage == "ok")
            return _look_at_server(connection, where)
    finally:
        engine.dispose()


def _newest_entry(settings: Settings) -> datetime | None:
    engine = engine_for(settings.database, begin="BEGIN")
    try:
        with reported(), engine.connect() as connection:
            return connection.execute(select(func.max(audit.c.at))).scalar()
    finally:
        engine.dispose()


def _clock(newest: datetime | None) -> Finding:
    """Whether this clock is behind what was recorded: then it is wrong now, or it was wrong before."""
    now = datetime.now(UTC)
    if newest is None or newest - now <= MAX_CLOCK_DIFFERENCE:
        return Finding("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")
    return Finding(
        "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, but the audit log goes to {newest:%Y-%m-%d %H:%M}", good=False
    )


def _unprotected_administrators(settings: Settings) -> list[str]:
    """The usernames of the first administrators whose password is all that their account needs."""
    protected = select(second_factors.c.user_id).where(second_factors.c.enabled_at.is_not(None))
    unprotected = (
        select(users.c.username)
        .where(users.c.administrator, users.c.disabled_at.is_(None), users.c.id.not_in(protected))
        .where(users.c.password_hash != "")  # they can only sign in with an institution
        .order_by(users.c.id)
        .limit(MAX_NAMED)
    )
    engine = engine_for(settings.database, begin="BEGIN")
    try:
        with reported(), engine.connect() as connection:
            return list(connection.execute(unprotected).scalars())
    finally:
        engine.dispose()


def _administrators(unprotected: list[str]) -> Finding:
    """Anyone who has the password of such an account could enable two-factor authentication, and administer."""
    names = ", ".join(map(quoted, unprotected))
    said = f"without two-factor authentication: {names}" if names else "all have two-factor authentication"
    return Finding("administrators", said, good=not names)


def _look_at_server(connection: Connection, where: str) -> Finding:
    number = connection.execute(text("SHOW server_version")).scalar()
    theirs: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    apart = abs((theirs - datetime.now(UTC)).total_seconds())
    said = f"{where}, PostgreSQL {number}, its clock {apart:.1f} seconds from ours"
    return Finding("database", said, good=apart <= MAX_CLOCK_DIFFERENCE.total_seconds())


def _descriptors() -> Finding:
    if sys.platform == "win32":
        return Finding("descriptors", "not limited")
    import resource  # noqa: PLC0415 - Windows has none

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("descriptors", "not limited")
    return Finding("descriptors", f"at most {hard}", good=hard >= MIN_DESCRIPTORS)


async def _institutions(container: Container, *, online: bool) -> AsyncIterator[Finding]:
    """Each institution that signs in; online, also whether its document is in order."""
    providers = container.identity_providers()
    for each in providers.institutions:
        said, good = each.issuer, True
        if online:
            try:
                await providers.sign_in_url(each, state="x", nonce="x", challenge="x")
            except BaioError as error:
                said, good = f"{said}: {error.detail} (the line before says why)", False
        yield Finding(f"sign-in with {each.name}", said, good=good)


async def _providers(container: Container, *, online: Collection[str] | None) -> AsyncIterator[Finding]:
    gateways = container.gateways()
    asked = {folded(name) for name in (online or gateways)} if online is not None else set()
    try:
        for name, gateway in gateways.items():
            if folded(name) not in asked:
                yield Finding(f"provider {name}", "configured (--online asks it)")
                continue
            try:
                async with asyncio.timeout(ONLINE_SECONDS):
                    await gateway.check_key(key="baio-doctor")
            except (KeyRefused, TooMany):
                pass  # which is an answer
            except BaioError as error:
                yield Finding(f"provider {name}", error.detail, good=False)
                continue
            except TimeoutError:
                yield Finding(f"provider {name}", f"did not answer within {ONLINE_SECONDS:.0f} seconds", good=False)
                continue
            yield Finding(f"provider {name}", "answers")
    finally:
        for gateway in gateways.values():
            await gateway.aclose()

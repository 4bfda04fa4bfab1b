"""What the administrator of an installation does with accounts, from the command line; no client of the API can."""

from collections.abc import Container
from dataclasses import dataclass

from baio_domain.entities import User, account_problems, refuse
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.ports import Clock, Database, PasswordHasher, Transaction


@dataclass(frozen=True, slots=True)
class ListUsers:
    """List all accounts, in the order they were made."""

    database: Database

    async def __call__(self) -> list[User]:
        """Return them."""
        return await self.database.read(lambda tx: tx.users.all())


@dataclass(frozen=True, slots=True)
class DisableUser:
    """Shut an account out with its very next request; its running answers are stopped, and nothing is deleted."""

    database: Database
    clock: Clock

    async def __call__(self, username: str) -> User:
        """Disable it, or leave it disabled, and return it; InvalidInput naming ``username`` where there is none."""
        now = self.clock.now()

        def disable(tx: Transaction) -> User:
            user = _named(tx, username)
            if user.disabled_at is None:
                tx.users.disable(user.id, now)
            return tx.users.get(user.id)

        return await self.database.write(disable)


@dataclass(frozen=True, slots=True)
class EnableUser:
    """Let a disabled account in again."""

    database: Database

    async def __call__(self, username: str) -> User:
        """Enable it, or leave it enabled, and return it; InvalidInput naming ``username`` where there is none."""

        def enable(tx: Transaction) -> User:
            user = _named(tx, username)
            tx.users.enable(user.id)
            return tx.users.get(user.id)

        return await self.database.write(enable)


@dataclass(frozen=True, slots=True)
class ResetPassword:
    """Give an account another password; the rules for passwords hold."""

    database: Database
    hasher: PasswordHasher
    common_passwords: Container[str]

    async def __call__(self, username: str, password: str) -> User:
        """Replace it and return the account; InvalidInput naming ``username`` or ``password``."""
        user = await self.database.read(lambda tx: _named(tx, username))
        own = {"username": user.username, "email": user.email, "password": password}
        own |= {"first_name": user.first_name, "last_name": user.last_name}
        refuse(each for each in account_problems(own, self.common_passwords) if each.field == "password")
        password_hash = await self.hasher.hash(password)
        await self.database.write(lambda tx: tx.users.save_password_hash(user.id, password_hash))
        return user


def _named(tx: Transaction, username: str) -> User:
    user = tx.users.by_username(username.strip())
    if user is None:
        raise InvalidInput.of(FieldError("username", "there is no such account"))
    return user

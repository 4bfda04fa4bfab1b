"""The JSON of administration over HTTP. It never has a user's text, title or key."""

from typing import ClassVar

import msgspec

from baio_api.bodies import Body
from baio_api.schemas.common import Count, Examples, Id, Time
from baio_api.schemas.usage import Cost, PricedUsageOfDay, UsageOfDay
from baio_domain.use_cases.administration import ListedAccount


class AccountInfo(msgspec.Struct, frozen=True):
    """An account, as administrators see it. ``disabled_at`` is null while it is enabled."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 1,
            "username": "olenor",
            "email": "ole.normann@example.no",
            "first_name": "Ole",
            "last_name": "Normann",
            "created_at": "2024-01-15T09:30:00.000001Z",
            "disabled_at": None,
            "administrator": False,
            "two_factor": True,
        }
    }

    id: Id
    username: str
    email: str
    first_name: str
    last_name: str
    created_at: Time
    disabled_at: Time | None
    administrator: bool
    two_factor: bool

    @classmethod
    def of(cls, listed: ListedAccount) -> "AccountInfo":
        """One of the use case's."""
        user = listed.user
        return cls(
            user.id,
            user.username,
            user.email,
            user.first_name,
            user.last_name,
            user.created_at,
            user.disabled_at,
            user.administrator,
            listed.two_factor,
        )


class AccountsPage(msgspec.Struct, frozen=True):
    """Accounts, and the ``after`` to request the next ones, or null if there are no more."""

    examples: ClassVar[Examples] = {"contract": {"users": [AccountInfo.examples["contract"]], "next": 1}}

    users: list[AccountInfo]
    next: Id | None


class AccountRequest(Body, frozen=True):
    """The account's username."""

    examples: ClassVar[Examples] = {"contract": {"username": "olenor"}}

    username: str


class InviteUserRequest(Body, frozen=True):
    """The email address of the account that can be registered; without it, any account."""

    examples: ClassVar[Examples] = {"contract": {"email": "ole.normann@example.no"}, "anybody": {}}

    email: str | None = None


class InvitationInfo(msgspec.Struct, frozen=True):
    """The code to register with, which no other response shows, its email address, and when it expires."""

    examples: ClassVar[Examples] = {
        "contract": {
            "invitation": "%INVITATION%",
            "email": "ole.normann@example.no",
            "until": "2024-01-22T09:30:00.000001Z",
        }
    }

    invitation: str
    email: str | None
    until: Time


class AuditLine(msgspec.Struct, frozen=True):
    """An entry of the audit log: the account, the act, the time, and the origin.

    ``user_id`` and ``username`` are null where there is no such account (any more). ``operator`` is the administrator
    who acted, and empty where the user did; ``operator_id`` is that account, and null if it was done on the server
    itself. ``address`` is that of the person who acted.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 17,
            "at": "2024-01-15T10:00:00.000001Z",
            "act": "account-disabled",
            "user_id": 2,
            "username": "kari",
            "operator": "olenor",
            "operator_id": 1,
            "address": "192.0.2.7",
            "request_id": "5f0c9a1e2b7d4c3f8a6e",
            "note": "",
        }
    }

    id: Id
    at: Time
    act: str
    user_id: Id | None
    username: str | None
    operator: str
    operator_id: Id | None
    address: str
    request_id: str
    note: str


class UsageOfAccount(PricedUsageOfDay, frozen=True, kw_only=True):
    """What the answers of one account and one model cost on one day."""

    examples: ClassVar[Examples] = {
        "contract": {
            **UsageOfDay.examples["contract"],
            "cached_tokens": 0,
            "cost": Cost.examples["contract"],
            "username": "olenor",
        },
    }

    username: str


class UsageOfAccounts(msgspec.Struct, frozen=True):
    """The usage of all accounts, the sum of each currency, and how many answers are in no sum."""

    examples: ClassVar[Examples] = {
        "contract": {
            "days": [UsageOfAccount.examples["contract"]],
            "totals": [Cost.examples["contract"]],
            "unpriced_answers": 0,
        }
    }

    days: list[UsageOfAccount]
    totals: list[Cost]
    unpriced_answers: Count

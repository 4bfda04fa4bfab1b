"""The JSON of providers, models and API keys."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from baio_api.bodies import Body
from baio_api.schemas.common import Examples, Id, Time
from baio_domain.entities import key_problems, refuse
from baio_domain.errors import FieldError


class ModelInfo(msgspec.Struct, frozen=True):
    """A model's id and display name."""

    id: Id
    name: str


class ProviderInfo(msgspec.Struct, frozen=True):
    """A provider and the models that it offers."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 1,
            "name": "OpenAI",
            "models": [
                {"id": 1, "name": "GPT-4o"},
                {"id": 2, "name": "GPT-4o mini"},
                {"id": 3, "name": "OpenAI o1-preview"},
                {"id": 4, "name": "OpenAI o1-mini"},
            ],
        }
    }

    id: Id
    name: str
    models: list[ModelInfo]


class ApiKeyInfo(msgspec.Struct, frozen=True):
    """A stored API key, without the key itself."""

    examples: ClassVar[Examples] = {
        "contract": {
            "nickname": "OpenAI Key",
            "provider": ProviderInfo.examples["contract"],
            "created_at": "2024-10-27T14:23:35.321000Z",
        }
    }

    nickname: str
    provider: ProviderInfo
    created_at: Time


class AddApiKeyRequest(Body, frozen=True):
    """A key to store, as ``key``, ``nickname`` and ``provider``, or as ``apiKey``, ``name`` and ``apiProvider``."""

    examples: ClassVar[Examples] = {
        "contract": {"key": "sk-...", "nickname": "OpenAI Key"},
        "webClient": {"name": "OpenAI Key", "apiProvider": "1", "apiKey": "sk-..."},
    }

    key: str | UnsetType = UNSET
    nickname: str | UnsetType = UNSET
    provider: int | str | UnsetType | None = UNSET
    apiKey: str | UnsetType = UNSET  # noqa: N815 - the deployed web client's spelling
    name: str | UnsetType = UNSET
    apiProvider: int | str | UnsetType | None = UNSET  # noqa: N815 - as apiKey

    @classmethod
    def precheck(cls, document: Mapping[str, Any]) -> None:
        """Name the key and the nickname as missing. No field is required, because each has two names."""
        if not document:
            refuse(key_problems("", ""))

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules for keys and nicknames, under the names that the client has used."""
        key, nickname = (
            next((name for name in names if name in fields), "") for names in (("key", "apiKey"), ("nickname", "name"))
        )
        judged = {"key": key, "nickname": nickname}
        for problem in key_problems(fields.get(key, ""), fields.get(nickname, "")):
            if judged[problem.field]:
                yield FieldError(judged[problem.field], problem.message)


class AddedApiKey(msgspec.Struct, frozen=True):
    """The nickname of the stored key, and its owner's id."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key", "user": 1}}

    nickname: str
    user: Id


class DeleteApiKeyRequest(Body, frozen=True):
    """The key to delete."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key"}}

    nickname: str


class RenameApiKeyRequest(Body, frozen=True):
    """The key to rename, and its new nickname."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key", "new_nickname": "Lab Key"}}

    nickname: str
    new_nickname: str


class TestApiKeyRequest(Body, frozen=True):
    """The key to test with its provider."""

    examples: ClassVar[Examples] = {"contract": {"nickname": "OpenAI Key"}}

    nickname: str


class CheckedApiKey(msgspec.Struct, frozen=True):
    """Whether the provider accepts a key. ``valid`` is null if that could not be determined."""

    examples: ClassVar[Examples] = {
        "contract": {"nickname": "OpenAI Key", "valid": True, "reason": "OpenAI accepts the key."}
    }

    nickname: str
    valid: bool | None
    reason: str

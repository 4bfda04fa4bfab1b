"""The JSON of errors."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from baio_api.schemas.common import Id
from baio_domain.entities import Scope


class BadField(msgspec.Struct, frozen=True):
    """A field that is not valid."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as defined by RFC 9457. ``errors`` is present for invalid input and names every bad field."""

    type: str
    title: str
    status: Annotated[int, Meta(extra_json_schema={"minimum": 400, "maximum": 599})]
    detail: str
    errors: list[BadField] | UnsetType = UNSET
    answer_id: Id | UnsetType = UNSET
    scope: Scope | UnsetType = UNSET

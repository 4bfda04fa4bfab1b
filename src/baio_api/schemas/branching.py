"""The JSON of branches."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from baio_api.bodies import Body
from baio_api.schemas.common import Examples, SentId
from baio_domain.entities import title_problems
from baio_domain.errors import FieldError


class BranchConversationRequest(Body, frozen=True):
    """The conversation to branch, the message before which the branch ends, and the branch's title."""

    examples: ClassVar[Examples] = {
        "contract": {"conversation_id": 1, "message_id": 12},
        "whole": {"conversation_id": 1, "title": "The same with another model"},
    }

    conversation_id: SentId
    message_id: SentId | None = None
    title: str | None = None

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for titles."""
        yield from title_problems(fields.get("title") or "")

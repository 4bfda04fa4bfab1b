"""The JSON of imports."""

from collections import Counter
from typing import ClassVar

import msgspec

from baio_api.schemas.common import Count, Examples, Id
from baio_domain.use_cases.imports import ImportedConversation, ImportOutcome


class ImportedConversationInfo(msgspec.Struct, frozen=True):
    """The outcome for one conversation of the file.

    ``outcome`` is imported, present (it was imported before), or skipped, with a ``reason``. ``source`` is the service
    that it comes from, or empty.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "outcome": "imported",
            "title": "Codon usage",
            "source": "ChatGPT",
            "conversation_id": 7,
            "messages": 12,
            "reason": "",
        }
    }

    outcome: ImportOutcome
    title: str
    source: str
    conversation_id: Id | None
    messages: Count
    reason: str


class ImportReport(msgspec.Struct, frozen=True):
    """How many conversations were imported, were there already, or were skipped, and each of them."""

    examples: ClassVar[Examples] = {
        "contract": {
            "imported": 1,
            "present": 0,
            "skipped": 0,
            "conversations": [ImportedConversationInfo.examples["contract"]],
        }
    }

    imported: Count
    present: Count
    skipped: Count
    conversations: list[ImportedConversationInfo]

    @classmethod
    def of(cls, done: list[ImportedConversation]) -> "ImportReport":
        """As clients get it."""
        counted = Counter(each.outcome for each in done)
        imported, present, skipped = (counted[each] for each in ImportOutcome)
        return cls(
            imported, present, skipped, msgspec.convert(done, list[ImportedConversationInfo], from_attributes=True)
        )

"""Exports: the files in which chat services hand out their users' conversations."""

from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from baio_domain.entities import AnswerState, Role


@dataclass(frozen=True, slots=True)
class ExportedMessage:
    """A message of an exported conversation: of the user, or of the assistant. Unknown values are None.

    ``model`` is what the export calls the assistant's model, ``state`` how the answer ended.
    """

    role: Role
    content: str
    created_at: datetime | None = None
    model: str | None = None
    state: AnswerState = AnswerState.COMPLETE


@dataclass(frozen=True, slots=True)
class ExportedThread:
    """A conversation in an export: its messages in their order, without blank ones.

    ``source`` is the name of the service. ``branch`` is 0 for what the service shows; the others are numbered from 1.
    ``system`` is the text of its system message, None for the usual one.
    """

    source: str
    title: str
    created_at: datetime | None
    messages: tuple[ExportedMessage, ...]
    branch: int = 0
    system: str | None = None


@dataclass(frozen=True, slots=True)
class UnreadableThread:
    """A conversation that can't be imported, and why in a few words."""

    title: str
    reason: str


class ExportReader(Protocol):
    """Reads exports without blocking anybody, and needs little memory, whatever a file contains."""

    @abstractmethod
    def read(self, file: BinaryIO) -> AsyncIterator[ExportedThread | UnreadableThread]:
        """Yield the conversations of a file that can be read and sought, one at a time, as they are read.

        The text can be stored in every database. Raises InvalidInput naming ``file`` if it is not an export, or too
        large.
        """

    @abstractmethod
    async def digest(self, file: BinaryIO) -> str:
        """A digest of the whole file."""

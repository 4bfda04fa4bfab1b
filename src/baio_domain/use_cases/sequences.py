"""Stored sequences: add them from a file, list, read, rename and delete them."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from baio_domain.entities import Caller, InputOrigin, InputSource, StoredSequence, refuse
from baio_domain.errors import FieldError
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.pages import by_id, pages
from baio_domain.ports import PAGE_ROWS, Clock, Database, SecretBox, Transaction
from baio_domain.quotas import AtOnce, Quotas
from baio_domain.sequence_files import (
    FORMATS,
    MOLECULES,
    TOPOLOGIES,
    Part,
    SequenceFile,
    SequenceFiles,
    name_problems,
)
from baio_domain.session_check import session_checked
from baio_domain.tool_runs import named_apart, new_sequence, store_sequences

MAX_PAGE_LETTERS = 1_000_000
"""Letters of the longest part that is sent as JSON."""


def file_problems(file: SequenceFile) -> Iterator[FieldError]:
    """The problems of a file, except those of its contents."""
    if not file.content.strip():
        yield FieldError("content", "must not be blank")
    if file.name is not None:
        yield from name_problems(file.name)
    for name, value, accepted in (
        ("format", file.format, FORMATS),
        ("molecule", file.molecule, MOLECULES),
        ("topology", file.topology, TOPOLOGIES),
    ):
        if value is not None and value not in accepted:
            yield FieldError(name, f"is not one of {', '.join(accepted)}")


@dataclass(frozen=True, slots=True)
class AddSequences:
    """Store the sequences of a file: FASTA, GenBank, EMBL, FASTQ or bare letters.

    - Tools, questions and answers name a stored sequence by its handle, such as `seq_17`, or in its conversations by
      its name. Its letters stay on the server.
    - The file is stored as a whole or refused as a whole, with the line and the reason: invalid letters, a length that
      does not match the letters, no letters. It has at most 1,000 sequences with 200,000 features, and the body of the
      request at most 16 MiB.
    - BAiO detects format, molecule and topology unless they are given. A name or a topology applies to one sequence: a
      file with a second one is then refused.
    - The same letters, topology and name are one sequence: adding it again returns the one that is stored. With other
      features it is stored besides, with a number behind its name, such as `pUC19 (2)`.
    - With the same idempotency key and the same request, within 24 hours, nothing is stored again: the response has the
      sequences that were added before, if they still exist under their names. With another request the key is refused.
    - The number of a user's sequences is limited, and so are their letters and features.
    """

    database: Database
    files: SequenceFiles
    box: SecretBox
    clock: Clock
    quotas: Quotas
    at_once: AtOnce

    async def __call__(
        self,
        caller: Caller,
        file: SequenceFile,
        *,
        conversation_id: int | None = None,
        idempotency_key: str | None = None,
    ) -> list[StoredSequence]:
        """Store them, and return one record for each sequence of the file, in its order.

        Raises InvalidInput, SequenceFileRefused, TooManyRecords, TooManyFeatures, ConversationNotFound,
        TooManySequences, SequencesFull, IdempotencyKeyReused, TooManyToolRuns or Unavailable.
        """
        refuse([*file_problems(file), *idempotency_problems(idempotency_key)])
        owner, now = caller.user_id, self.clock.now()

        def check(tx: Transaction) -> None:
            if conversation_id is not None:
                tx.conversations.get(conversation_id, owner=owner)

        await self.database.write(session_checked(caller, check))  # the limits lock the user's row
        with self.at_once.one(owner):
            contents = await self.files.read(file)
        given = (contents.sha256, file.format, file.name, file.molecule, file.topology, conversation_id)
        fingerprint = self.box.fingerprint("addSequences", *map(str, given))
        request = IdempotentRequest(owner, idempotency_key, fingerprint, now)

        origin = InputOrigin(InputSource.FILE)
        new = [
            new_sequence(each, owner, origin, now, format_=contents.format, conversation_id=conversation_id)
            for each in contents.sequences
        ]

        def add(tx: Transaction) -> list[StoredSequence]:
            if request.find(tx) is not None:
                named = named_apart(tx, owner, new)
                found = (tx.sequences.find(each.sha256, each.topology, each.name, owner=owner) for each in named)
                return [each for each in found if each is not None]
            added = store_sequences(tx, self.quotas, owner, new)
            request.record(tx, added[0].id, conversation=conversation_id)
            return added

        return await self.database.write(session_checked(caller, add))


@dataclass(frozen=True, slots=True)
class GetSequences:
    """List one's own stored sequences, or those of a conversation, newest first, without their letters.

    They come from files, from questions in which they were pasted, and from tools that have made them. BAiO sends long
    lists while reading them, page by page: each page shows the data at the moment when it is read.
    """

    database: Database

    def __call__(self, caller: Caller, conversation_id: int | None = None) -> AsyncIterator[list[StoredSequence]]:
        """Return ``pages`` of them. Reading one raises ConversationNotFound."""
        owner = caller.user_id

        def read(tx: Transaction, before: int | None) -> list[StoredSequence]:
            if conversation_id is not None:
                tx.conversations.get(conversation_id, owner=owner)
            return tx.sequences.page(owner, conversation_id=conversation_id, before=before)

        def key(sequence: StoredSequence) -> int | None:
            return by_id(sequence)

        return pages(self.database, caller, read, None, key, limit=PAGE_ROWS)


@dataclass(frozen=True, slots=True)
class SequencePart:
    """A part of a stored sequence, as text in the format that was asked for."""

    sequence: StoredSequence
    part: Part
    text: bytes


@dataclass(frozen=True, slots=True)
class GetSequence:
    """Read a stored sequence: its record, letters and features.

    - `format` is `json`, `fasta` or `genbank`. JSON has the letters only if `start` or `end` is given, at most
      1,000,000, and up to 500 features of the part, after the first `features_after`; `features_total` counts them.
    - Positions are 1-based and inclusive. On a circle, a start after the end means across the origin.
    - Features that lie wholly in the part are included. Qualifiers are those of the file, except `translation`.
    """

    database: Database
    files: SequenceFiles
    at_once: AtOnce

    async def __call__(
        self,
        caller: Caller,
        sequence_id: int,
        *,
        start: int | None = None,
        end: int | None = None,
        format_: str = "json",
        features_after: int = 0,
    ) -> SequencePart:
        """Return the part. Raises SequenceNotFound, InvalidInput, TooManyToolRuns or Unavailable."""
        owner = caller.user_id
        sequence, content = await self.database.read(
            session_checked(
                caller,
                lambda tx: (
                    tx.sequences.get(sequence_id, owner=owner),
                    tx.sequences.content(sequence_id, owner=owner),
                ),
            )
        )
        letters = format_ != "json" or start is not None or end is not None
        first, last = 1 if start is None else start, sequence.length if end is None else end
        part = Part(str(format_), int(first), int(last), int(features_after), with_letters=letters)
        refuse(_part_problems(sequence, part))
        with self.at_once.one(owner):
            return SequencePart(sequence, part, await self.files.write(sequence, content, part))


def _part_problems(sequence: StoredSequence, part: Part) -> Iterator[FieldError]:
    if part.features_after < 0:
        yield FieldError("features_after", "must be at least 0")
    outside = [name for name in ("start", "end") if not 1 <= getattr(part, name) <= sequence.length]
    yield from (FieldError(name, f"is not between 1 and {sequence.length}, the length") for name in outside)
    if part.start > part.end and sequence.topology != "circular" and not outside:
        yield FieldError("start", "is behind the end, which only a circle has")
    if part.format == "json" and part.with_letters and part.size(sequence.length) > MAX_PAGE_LETTERS:
        yield FieldError("end", f"gives more than {MAX_PAGE_LETTERS:,} letters; ask for parts, or for fasta")


@dataclass(frozen=True, slots=True)
class RenameSequence:
    """Give a stored sequence another name: 1 to 100 printable characters on one line. Its handle stays."""

    database: Database

    async def __call__(self, caller: Caller, sequence_id: int, name: str) -> None:
        """Rename it. Raises SequenceNotFound, or InvalidInput naming ``name``."""
        refuse(name_problems(name))
        await self.database.write(
            session_checked(caller, lambda tx: tx.sequences.rename(sequence_id, name, owner=caller.user_id))
        )


@dataclass(frozen=True, slots=True)
class DeleteSequence:
    """Delete a stored sequence. Records of tools' calls keep its length and SHA-256, but can't be verified any more."""

    database: Database

    async def __call__(self, caller: Caller, sequence_id: int) -> None:
        """Delete it, or raise SequenceNotFound."""
        await self.database.write(
            session_checked(caller, lambda tx: tx.sequences.delete(sequence_id, owner=caller.user_id))
        )

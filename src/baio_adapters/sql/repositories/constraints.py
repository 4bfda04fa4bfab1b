"""Broken constraints: a table from their names to the domain's errors."""

from collections.abc import Iterator

from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.exc import IntegrityError

from baio_adapters.sql.tables import metadata
from baio_domain.errors import (
    BaioError,
    InvalidInput,
    name_taken,
    nickname_taken,
    preset_name_taken,
    token_name_taken,
)

_TAKEN = {
    "uq_users_username_folded": name_taken("username"),
    "uq_users_email_folded": name_taken("email"),
    "uq_api_keys_user_id_nickname": nickname_taken(),
    "uq_presets_user_id_name": preset_name_taken(),
    "uq_api_tokens_user_id_name": token_name_taken(),
}


RACES = frozenset(
    {
        "uq_answers_running",
        "uq_answers_slot",
        "uq_conversations_import",
        "pk_idempotency_keys",
        "pk_second_factors",
        "pk_guesses",
        "pk_known_networks",
        "uq_identities_issuer_subject",
        "pk_conversation_sequences",
        "uq_sequences_user_id_sha256_topology_name",
    }
)
"""Constraints that only a concurrent transaction breaks. Run again, the unit of work sees what the other one did."""


def refusal(error: IntegrityError) -> BaioError | None:
    """The refusal for a broken constraint, or None if it can only be a bug."""
    taken = _TAKEN.get(constraint_name(error))
    return InvalidInput.of(taken) if taken else None


def constraint_name(error: IntegrityError) -> str:
    """The name of the broken constraint. SQLite reports only its columns."""
    diagnostics = getattr(error.orig, "diag", None)
    if diagnostics is not None:
        return str(diagnostics.constraint_name)
    return _UNIQUE_BY_COLUMNS.get(str(error.orig).removeprefix("UNIQUE constraint failed: "), "")


def _unique_by_columns() -> Iterator[tuple[str, str]]:
    for table in metadata.tables.values():
        constraints = [each for each in table.constraints if isinstance(each, UniqueConstraint | PrimaryKeyConstraint)]
        indexes = [each for each in table.indexes if each.unique]
        for rule in (*constraints, *indexes):
            yield ", ".join(f"{table.name}.{column.name}" for column in rule.columns), str(rule.name)


_UNIQUE_BY_COLUMNS = dict(_unique_by_columns())

"""The file with the embedded database's secret keys, for installations that set no BAIO_SECRET_KEY."""

import contextlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

MIN_SECRET_LENGTH = 32


class DamagedSecretFileError(Exception):
    """The file holds something other than secret keys; the message holds none of it."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """One secret key per line, the newest first. The file has mode 0600 and is only ever replaced as a whole."""

    path: Path

    def read(self) -> list[str]:
        """The secret keys, the newest first; none if there is no file."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def read_or_create(self) -> list[str]:
        """The secret keys, the newest first. Creates the file with a new key if it is missing.

        Raises DamagedSecretFileError.
        """
        if not self.path.exists():
            draft = self._draft([_new_secret()])
            # A hard link appears complete or not at all, and fails if another process was faster: then its key counts.
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.path)
            draft.unlink()
        found = self.read()
        if not found or any(len(secret) < MIN_SECRET_LENGTH for secret in found):
            raise DamagedSecretFileError(
                f"{self.path} is damaged: it must hold the secret key that this data was encrypted with"
            )
        return found

    def add(self) -> None:
        """Generate a new secret key and put it first."""
        self.replace([_new_secret(), *self.read()])

    def replace(self, keys: list[str]) -> None:
        """Hold these secret keys, the newest first, and no others."""
        self._draft(keys).replace(self.path)

    def forget_old(self) -> int:
        """Remove all secret keys except the newest; returns how many were removed."""
        newest, *old = self.read()
        self.replace([newest])
        return len(old)

    def _draft(self, lines: list[str]) -> Path:
        """Write the lines to a new file in the same folder."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=self.path.parent)  # mode 0600
        with os.fdopen(handle, "w") as file:
            file.write("\n".join(lines))
        return Path(draft)


def _new_secret() -> str:
    return secrets.token_urlsafe(48)

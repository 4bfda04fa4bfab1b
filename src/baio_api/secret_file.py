"""The file with the embedded database's secret keys, for installations that set no BAIO_SECRET_KEY."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_SECRET_LENGTH = 32


class SecretFileError(Exception):
    """The file can't be used; the message is one line and holds no secret."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """One secret key per line, the newest first. The file has mode 0600 and is only ever replaced as a whole."""

    path: Path

    def read(self) -> list[str]:
        """The secret keys, the newest first. Raises SecretFileError, also if there is no file."""
        try:
            found = self.path.read_text().splitlines()
        except (FileNotFoundError, UnicodeError):
            found = []
        except OSError as error:
            raise SecretFileError(f"can't read {self.path}: {error.strerror or error}") from None
        if not found or any(len(secret) < MIN_SECRET_LENGTH for secret in found):
            raise SecretFileError(
                f"{self.path} is damaged: it must hold the secret key that this data was encrypted with"
            )
        return found

    def create(self) -> None:
        """Create the file with a new secret key if it is missing. Raises SecretFileError."""
        if not self.path.exists():
            with self._draft([_new_secret()]) as draft:
                # A hard link appears complete or not at all, and fails if another process was faster: its key counts.
                try:
                    os.link(draft, self.path)
                except FileExistsError:
                    pass
                except OSError:  # this file system has none
                    if not self.path.exists():
                        draft.replace(self.path)

    def add(self) -> None:
        """Generate a new secret key and put it first. Raises SecretFileError."""
        self.replace([_new_secret(), *self.read()])

    def forget_old(self) -> int:
        """Remove all secret keys except the newest; returns how many were removed. Raises SecretFileError."""
        newest, *old = self.read()
        self.replace([newest])
        return len(old)

    def replace(self, keys: list[str]) -> None:
        """Hold these secret keys, the newest first, and no others. Raises SecretFileError."""
        with self._draft(keys) as draft:
            draft.replace(self.path)

    @contextlib.contextmanager
    def _draft(self, lines: list[str]) -> Iterator[Path]:
        """Write the lines to a new file in the same folder, which is removed at the end if it is still there."""
        draft: Path | None = None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent)  # mode 0600
            draft = Path(name)
            with os.fdopen(handle, "w") as file:
                file.write("\n".join(lines))
            yield draft
        except OSError as error:
            raise SecretFileError(f"can't write {self.path}: {error.strerror or error}") from None
        finally:
            if draft is not None:
                draft.unlink(missing_ok=True)


def _new_secret() -> str:
    return secrets.token_urlsafe(48)

"""Only the account that runs BAiO can read its files, whatever the folder's mode and the umask."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from baio_api.settings import Settings, SettingsError


def keep_private(settings: Settings) -> list[str]:
    """Give new files mode 0600 and new folders 0700, in this process and its children, and narrow existing files.

    Call it before anything is opened: SQLite gives the write-ahead log the mode of the database. Returns one line for
    each folder that other users can enter, and for each file that could not be narrowed. Raises SettingsError where
    BAiO can't use a folder. On Windows, where a user's folders are private, it does nothing.
    """
    if sys.platform == "win32":
        return []
    if problem := unusable_folder(settings):
        raise SettingsError(problem)
    os.umask(0o077)
    remarks = []
    for path in written_files(settings):
        try:
            found = path.stat()
        except OSError:
            continue  # it does not exist, or opening it will say why it can't be used
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o077:
            try:
                path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
            except OSError as error:
                remarks.append(f"can't make {path} private: {error.strerror or error}")
    open_folders = [
        f"other users can enter the folder {folder} (mode {mode:04o}); chmod 700 prevents that"
        for folder in _folders(settings)
        if (mode := _mode(folder)) & 0o077
    ]
    return [*remarks, *open_folders]


def unusable_folder(settings: Settings) -> str | None:
    """One line that says why BAiO can't use a folder of the embedded database, such as another user's; else None."""
    for folder in _folders(settings) if settings.embedded else []:
        try:
            found = folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # BAiO creates it, or says why it can't
        except OSError as error:
            return f"can't use the folder {folder}: {error.strerror or error}"
        if stat.S_ISDIR(found.st_mode) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            mode = f"mode {stat.S_IMODE(found.st_mode):04o}, owner uid {found.st_uid}"
            return f"can't read and write in the folder {folder} ({mode}) as uid {os.geteuid()}"
    return None


def _mode(folder: Path) -> int:
    """The permissions of a folder; 0 if there is none that can be seen."""
    try:
        found = folder.stat()
    except OSError:
        return 0
    return stat.S_IMODE(found.st_mode) if stat.S_ISDIR(found.st_mode) else 0


def _database_file(settings: Settings) -> Path | None:
    # Resolved, because SQLite puts its other files beside the database itself, not beside a link to it.
    return settings.database_file and settings.database_file.resolve()


def written_files(settings: Settings) -> Iterator[Path]:
    """The files that BAiO writes and that nobody else may read; they may not exist."""
    if database := _database_file(settings):
        yield from (Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm", "-journal"))
    yield settings.secret_file.path
    yield from settings.data_path.glob("terminal_user_*")


def _folders(settings: Settings) -> list[Path]:
    database = _database_file(settings)
    return sorted({settings.data_path.resolve(), *([database.parent] if database else [])})

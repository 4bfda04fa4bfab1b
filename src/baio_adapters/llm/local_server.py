"""What the embedded model's process runs: llama.cpp's server, on loopback alone.

Its only input is standard input: one line of JSON with ``model`` (a GGUF file), ``key``, ``alias``, ``context`` (tokens
of one question, all that was said before, and its answer) and ``answer`` (tokens of that), and then nothing; when it
ends, however the process that holds the other end does, so does this one. Its only output is the address.
Run as a file (``python -I local_server.py``): nothing of BAiO's is needed, or imported, here.
"""

import json
import os
import sys
import threading

PARALLEL_REQUESTS = 2
"""Questions that are answered at the same time; others wait. Each takes the memory of a context."""


def main() -> None:
    """Serve until standard input ends."""
    request = json.loads(sys.stdin.readline())
    # Also while the model is being loaded: a parent that was killed meanwhile must leave nothing behind.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import xllamacpp  # noqa: PLC0415 - takes its time

    params = xllamacpp.CommonParams()
    params.model.path = request["model"]
    params.model_alias = {request["alias"]}  # or the file's path is told to everybody who asks
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [request["key"]]
    params.ui = False
    params.cors_origins = ""
    params.n_ctx = request["context"] * PARALLEL_REQUESTS
    params.n_parallel = PARALLEL_REQUESTS
    params.n_batch = params.n_ubatch = 128  # between two batches it notices that nobody waits any more
    params.cache_ram_mib = 0
    params.n_predict = request["answer"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) - 1)
    params.sampling.temp = 0.0
    params.sampling.dry_multiplier = 0.8  # without it, so small a model says the same sentence for ever
    server = xllamacpp.Server(params)  # returns once the model is loaded and the server listens
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    threading.Event().wait()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

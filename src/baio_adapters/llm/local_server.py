"""The embedded model's process: llama.cpp's server, on the loopback interface only.

Standard input brings one line of JSON: ``model`` (a GGUF file), ``key``, ``alias``, ``context`` (tokens of a prompt and
its answer) and ``answer`` (tokens of an answer). The parent then keeps standard input open; the process exits when it
is closed, which also happens when the parent dies. Standard output brings one line, the server's URL.

It runs as a script (``python -I local_server.py``) and imports nothing of BAiO.
"""

import json
import os
import sys
import threading

PARALLEL_REQUESTS = 2
"""How many requests are answered at the same time; others wait. Each takes the memory of one context."""


def main() -> None:
    """Serve until standard input is closed."""
    request = json.loads(sys.stdin.readline())
    # Before the model is loaded: if the parent is killed meanwhile, this process must not outlive it.
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    import xllamacpp  # noqa: PLC0415 - slow to import

    params = xllamacpp.CommonParams()
    params.model.path = request["model"]
    params.model_alias = {request["alias"]}  # otherwise the server shows clients the file's path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [request["key"]]
    params.ui = False
    params.cors_origins = ""
    params.n_ctx = request["context"] * PARALLEL_REQUESTS
    params.n_parallel = PARALLEL_REQUESTS
    params.n_batch = params.n_ubatch = 128  # it notices a closed connection only between two batches
    params.cache_ram_mib = 0
    params.n_predict = request["answer"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) - 1)
    params.sampling.temp = 0.0
    params.sampling.dry_multiplier = 0.8  # without it, such a small model repeats one sentence for ever
    server = xllamacpp.Server(params)  # returns once the model is loaded and the server listens
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    threading.Event().wait()


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

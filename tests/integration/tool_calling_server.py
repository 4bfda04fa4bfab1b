"""llama.cpp's server with a chat template for tools, until standard input is closed. Imports nothing of BAiO.

The arguments are the file of the model and the file of the template. The first line of standard output that begins with
``http`` is its address.
"""

import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    """Serve until standard input is closed."""
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.chat_template = Path(sys.argv[2]).read_text("utf-8")
    params.use_jinja = True
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.n_ctx, params.n_parallel, params.n_predict = 4_096, 1, 64
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more would spin while tests run beside it
    params.sampling.temp = 0.0
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()

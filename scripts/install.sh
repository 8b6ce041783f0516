#!/usr/bin/env bash
# Makes a virtual environment and installs the project there, in place, with pinned versions.
#
#   scripts/install.sh [EXTRA]     EXTRA is one of the extras of pyproject.toml, such as dev
#
# VENV         the environment's folder: .venv unless told
# CONSTRAINTS  the file of versions: constraints.txt unless told, or constraints-oldest.txt
# PYTHON       the interpreter to use: 3.11 or newer
# TORCH_INDEX  where to look for torch first: PyTorch's CPU builds unless told. Empty, or out of reach: where pip
#              is configured to look, which is PyPI, whose build for Linux is the one for NVIDIA GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."

extra=${1:-}
venv=${VENV:-.venv}
constraints=${CONSTRAINTS:-constraints.txt}
torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: focus-detr needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 ..." >&2
    exit 2
}

if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    "$python" -m venv "$venv"
fi

reachable() {
    "$venv/bin/python" - "$1" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(sys.argv[1].rstrip("/") + "/torch/", timeout=10).close()
PYTHON
}

# By the environment rather than -c: only so it reaches the isolated environments of builds too.
# As an address, because pip splits the variable at spaces.
PIP_CONSTRAINT=$("$venv/bin/python" -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).resolve().as_uri())' "$constraints")
export PIP_CONSTRAINT

# torch alone from its own index, so that no other package is ever looked for there.
if [ -n "$torch_index" ] && reachable "$torch_index"; then
    "$venv/bin/python" -m pip install --extra-index-url "$torch_index" torch
else
    "$venv/bin/python" -m pip install torch
fi
"$venv/bin/python" -m pip install --editable ".${extra:+[$extra]}"

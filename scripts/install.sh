#!/usr/bin/env bash
# Makes .venv and installs the project there, in place, with the versions of constraints.txt.
#
#   scripts/install.sh [EXTRA]     EXTRA is one of the extras of pyproject.toml, such as dev
#
# PYTHON       the interpreter to use: 3.11 or newer
# TORCH_INDEX  where to look for torch first: PyTorch's CPU builds unless told. Empty, or out of reach: where pip
#              is configured to look, which is PyPI, whose build for Linux is the one for NVIDIA GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."

extra=${1:-}
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

if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    "$python" -m venv .venv
fi

# By the environment rather than -c: only so it reaches the isolated environments of builds too.
# As an address, because pip splits the variable at spaces.
PIP_CONSTRAINT=$(.venv/bin/python -c 'import pathlib; print(pathlib.Path("constraints.txt").resolve().as_uri())')
export PIP_CONSTRAINT

reachable() {
    .venv/bin/python - "$1" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(sys.argv[1].rstrip("/") + "/torch/", timeout=10).close()
PYTHON
}

# torch alone from its own index, so that no other package is ever looked for there.
if [ -n "$torch_index" ] && reachable "$torch_index"; then
    .venv/bin/python -m pip install --extra-index-url "$torch_index" torch
else
    .venv/bin/python -m pip install torch
fi
.venv/bin/python -m pip install --editable ".${extra:+[$extra]}"

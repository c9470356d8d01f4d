#!/usr/bin/env bash
# Make the virtual environment $1 and install imagoal into it with the tested versions. PYTHON=... picks an interpreter.
set -euo pipefail
venv=${1:-.venv}
cd "$(dirname "$0")/.."

good() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
python=
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    if good "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "imagoal: '$PYTHON' is not a Python 3.11 or newer with the venv module." >&2
    elif command -v apt-get >/dev/null; then
        echo "imagoal: needs Python 3.11 or newer with the venv module. Install it with: sudo apt-get install python3 python3-venv" >&2
    else
        echo "imagoal: needs Python 3.11 or newer with the venv module. Install it, or name it: make setup PYTHON=/path/to/python3.11" >&2
    fi
    exit 1
fi

if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    echo "imagoal: making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
echo "imagoal: installing packages into $venv (PyTorch is large; this takes minutes the first time)"
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"; then
    echo "imagoal: installing failed (see above). Once the network is back, the same command goes on where it stopped." >&2
    exit 1
fi
echo "imagoal: installed."

#!/usr/bin/env bash
# Runs the official Python clients of OpenAI and Anthropic against a running host with scripted models.
#
#   tests/clients.sh              needs python3 (3.9) with venv, and the program in $CHELA
#
# Ends with 3 where Python or its packages cannot be had, with 1 where something fails.
# The clients are installed into target/clients. CHELA is target/release/chela unless it is set.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
cache=$root/target/clients
chela=${CHELA:-$root/target/release/chela}
fail() { echo "tests/clients.sh: $1" >&2; exit 1; }
# Whoever has no Python has no use for these: told apart from a failure, and said.
missing() { echo "tests/clients.sh: $1" >&2; exit 3; }

[ -x "$chela" ] || fail "$chela is not there: cargo build --release, or set CHELA"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ||
    missing "Python 3.9 or newer is missing: apt-get install python3 python3-venv (or your system's)"
mkdir -p "$cache"
from_pypi=(openai==3.57.0 anthropic==2.14.0)
if [ "$(cat "$cache/installed" 2>/dev/null)" != "${from_pypi[*]}" ]; then
    python3 -m venv "$cache/python" || missing "venv is missing: apt-get install python3-venv (or your system's)"
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check "${from_pypi[@]}" ||
        missing "the clients cannot be installed from PyPI"
    echo "${from_pypi[*]}" >"$cache/installed"
fi

"$cache/python/bin/python" tests/clients.py "$chela"

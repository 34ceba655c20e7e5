#!/usr/bin/env bash
# Runs a host in front of the LiteLLM proxy: a provider of OpenAI's format that nobody here wrote. Its models answer by
# themselves (`mock_response`); nothing is asked over a network.
#
#   tests/litellm.sh              needs python3 (3.9) with venv, and the program in $CHELA
#
# Ends with 3 where Python or its packages cannot be had, with 1 where something fails.
# The proxy is installed into target/litellm, some 800 MB. CHELA is target/release/chela unless it is set.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
cache=$root/target/litellm
chela=${CHELA:-$root/target/release/chela}
fail() { echo "tests/litellm.sh: $1" >&2; exit 1; }
# Whoever has no Python has no use for this: told apart from a failure, and said.
missing() { echo "tests/litellm.sh: $1" >&2; exit 3; }

[ -x "$chela" ] || fail "$chela is not there: cargo build --release, or set CHELA"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ||
    missing "Python 3.9 or newer is missing: apt-get install python3 python3-venv (or your system's)"
mkdir -p "$cache"
from_pypi=('litellm[proxy]==1.108.7')
if [ "$(cat "$cache/installed" 2>/dev/null)" != "${from_pypi[*]}" ]; then
    python3 -m venv "$cache/python" || missing "venv is missing: apt-get install python3-venv (or your system's)"
    timeout 900 "$cache/python/bin/pip" install --quiet --disable-pip-version-check "${from_pypi[@]}" ||
        missing "the proxy cannot be installed from PyPI"
    echo "${from_pypi[*]}" >"$cache/installed"
fi

timeout 600 "$cache/python/bin/python" tests/litellm_proxy.py "$chela" "$cache/python/bin/litellm"

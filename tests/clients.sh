#!/usr/bin/env bash
# Runs the official Python clients of OpenAI and Anthropic against a running host with scripted models.
#
#   tests/clients.sh              needs python3 (3.9) with venv, and the program in $CHELA
#
# Ends with 3 where Python or its packages cannot be had, with 1 where something fails.
# CHELA is target/release/chela unless it is set.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/python.sh

needs_chela
python_with 3.9 clients openai==3.57.0 anthropic==2.14.0
"$python" tests/clients.py "$CHELA"

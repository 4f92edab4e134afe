#!/usr/bin/env bash
# Creates the Python environment and puts archshift, python and uv on PATH for the next steps.
set -euo pipefail
cd "$(dirname "$0")/../.."

python3 tools/python_env.py
# The engine starts the policy pack through uv.
uv=$(.venv/bin/python -c 'from tools.python_env import find_uv; print(find_uv().parent)')
printf '%s\n%s\n' "$PWD/.venv/bin" "$uv" >>"${GITHUB_PATH:-/dev/stdout}"

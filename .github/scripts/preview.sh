#!/usr/bin/env bash
# preview.sh STACK DIR: previews the checked-out commit. Writes preview.md, the commit and the exit code to DIR for
# later jobs. Ends with the preview's exit code.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?a folder for the results}
check_stack "$stack"
mkdir -p "$dir"
rm -f "$dir"/{commit,exit,preview.md}

git rev-parse HEAD >"$dir/commit"
code=0
archshift preview --stack "$stack" --markdown "$dir/preview.md" || code=$?
echo "$code" >"$dir/exit"
if [ -s "$dir/preview.md" ]; then summary <"$dir/preview.md"; fi
exit "$code"

#!/usr/bin/env bash
# preview.sh STACK DIR: previews what is checked out, and leaves in DIR what later jobs read: preview.md,
# the commit that was previewed, and how the preview ended. Ends as the preview did.
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

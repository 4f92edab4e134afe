#!/usr/bin/env bash
# preview.sh STACK DIR [RULES]: previews the checked-out commit. Writes preview.md, the commit and the exit code to DIR
# for later jobs. Ends with the preview's exit code. With RULES, the policy pack of that branch judges, and not that of
# the checked-out commit.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?a folder for the results} rules=${3:-}
check_stack "$stack"
mkdir -p "$dir"
rm -f "$dir"/{commit,exit,preview.md}

git rev-parse HEAD >"$dir/commit"
pack=()
if [ -n "$rules" ]; then
  git_remote fetch --quiet --depth=1 origin "refs/heads/$rules"
  pack=(--policy-pack-of "$(git rev-parse FETCH_HEAD)")
fi
# The code of the checked-out commit needs no token for the repository.
unset GH_TOKEN
code=0
archshift preview --stack "$stack" --markdown "$dir/preview.md" "${pack[@]}" || code=$?
echo "$code" >"$dir/exit"
if [ -s "$dir/preview.md" ]; then summary <"$dir/preview.md"; fi
exit "$code"

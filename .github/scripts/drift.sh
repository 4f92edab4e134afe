#!/usr/bin/env bash
# drift.sh STACK DIR: checks whether the cluster and AWS still match the last deployment. Writes the answer (yes, no
# or later) and the differences to DIR. Fails if the check is not possible.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?a folder for the results}
check_stack "$stack"
mkdir -p "$dir"
rm -f "$dir"/{answer,drift.md,preview.txt,status.txt}

compared=0 codes=()
archshift deployment compare --stack "$stack" >"$dir/compared.txt" || compared=$?
if [ "$compared" = 0 ]; then
  engine=0 placed=0
  pulumi preview --stack "$stack" --policy-pack policies --expect-no-changes --diff --non-interactive --color never \
    --suppress-outputs >"$dir/preview.txt" 2>&1 || engine=$?
  archshift status --stack "$stack" >"$dir/status.txt" 2>&1 || placed=$?
  codes=(--preview "$engine" --status "$placed")
fi
code=0
archshift deployment drift --stack "$stack" --folder "$dir" --compare "$compared" "${codes[@]}" >"$dir/said.txt" || code=$?
# What the next job gets has no secrets.
rm -f "$dir"/{preview.txt,status.txt}
[ "$code" = 0 ] || exit "$code"
summary <"$dir/said.txt"

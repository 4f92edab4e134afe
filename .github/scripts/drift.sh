#!/usr/bin/env bash
# drift.sh STACK DIR: checks whether the cluster and AWS still match the last deployment. Writes the answer (yes, no
# or later) and the differences to DIR. Fails if the check is not possible.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?a folder for the results}
check_stack "$stack"
mkdir -p "$dir"
rm -f "$dir"/{answer,drift.md}

compared=0
archshift deployment compare --stack "$stack" >"$dir/compared.txt" || compared=$?
[[ $compared =~ ^(0|3)$ ]] || fail "The check for drift of $stack failed: archshift deployment ended with $compared."
if [ "$compared" = 3 ]; then
  echo later >"$dir/answer"
  echo "$(<"$dir/compared.txt"). Drift is checked after the next deployment." | summary
  exit
fi

engine=0
pulumi preview --stack "$stack" --policy-pack policies --expect-no-changes --diff --non-interactive --color never \
  --suppress-outputs >"$dir/preview.txt" 2>&1 || engine=$?
# 5: a rule of the policy pack is violated. 7: there are changes. Any other code is an error.
[[ $engine =~ ^(0|5|7)$ ]] || {
  cat "$dir/preview.txt" >&2
  fail "The check for drift of $stack failed: pulumi preview ended with $engine."
}
placed=0
archshift status --stack "$stack" >"$dir/status.txt" 2>&1 || placed=$?
# 3: counts differ. 5: pods are pending, or a rollout is stuck.
[[ $placed =~ ^(0|3|5)$ ]] || {
  cat "$dir/status.txt" >&2
  fail "The check for drift of $stack failed: archshift status ended with $placed."
}

if [ "$engine$placed" = 00 ]; then
  echo no >"$dir/answer"
  echo "\`$stack\` matches its last deployment." | summary
  exit
fi
# Autoscalers change entries, counts and deletion costs. That alone is no drift.
if [[ $engine != 5 && $placed != 5 ]]; then
  scaled=0
  archshift deployment drift --stack "$stack" >"$dir/differs.txt" || scaled=$?
  [[ $scaled =~ ^(0|3)$ ]] || fail "The check for drift of $stack failed: archshift deployment ended with $scaled."
  if [ "$scaled" = 0 ]; then
    echo no >"$dir/answer"
    echo "\`$stack\` differs from its last deployment only by what autoscalers changed." | summary
    exit
  fi
fi
echo yes >"$dir/answer"
{
  echo "\`$stack\` differs from its last deployment. \`pulumi up\` undoes the changes. To keep them, commit them to the repository."
  if [ "$placed" = 5 ]; then echo "Pods are pending or a rollout is stuck. The table names the reason."; fi
  echo
  if [ "$engine" != 0 ]; then block <"$dir/preview.txt"; fi
  if [ "$placed" != 0 ]; then block <"$dir/status.txt"; fi
} >"$dir/drift.md"
summary <"$dir/drift.md"

#!/usr/bin/env bash
# drift.sh STACK DIR: whether the cluster and AWS still are what was deployed. Leaves in DIR the answer, yes, no or
# later, and what drifted; fails if that could not be told.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?a folder for the results}
check_stack "$stack"
mkdir -p "$dir"
rm -f "$dir"/{answer,drift.md}

deployed=$(deployed_ratio "$stack")
configured=$(configured_ratio "$stack")
if [ -z "$deployed" ] || ! same "$deployed" "$configured"; then
  echo later >"$dir/answer"
  echo "\`$stack\`: ${deployed:-nothing} is deployed and arm_ratio is $configured, so drift is judged after the next deploy." |
    summary
  exit
fi

engine=0
pulumi preview --stack "$stack" --policy-pack policies --expect-no-changes --diff --non-interactive --color never \
  --suppress-outputs >"$dir/preview.txt" 2>&1 || engine=$?
# 5: a rule of the policy pack is broken; 7: there are changes. Anything else tells nothing.
[[ $engine =~ ^(0|5|7)$ ]] || {
  cat "$dir/preview.txt" >&2
  fail "Drift of $stack could not be told: pulumi preview ended with $engine."
}
placed=0
archshift status --stack "$stack" >"$dir/status.txt" 2>&1 || placed=$?
[[ $placed =~ ^(0|3)$ ]] || {
  cat "$dir/status.txt" >&2
  fail "Drift of $stack could not be told: archshift status ended with $placed."
}

if [ "$engine$placed" = 00 ]; then
  echo no >"$dir/answer"
  echo "\`$stack\` is what was deployed." | summary
  exit
fi
echo yes >"$dir/answer"
{
  echo "\`$stack\` is not what was deployed. \`pulumi up\` brings it back; if the change was wanted, put it into the repository."
  echo
  if [ "$engine" != 0 ]; then block <"$dir/preview.txt"; fi
  if [ "$placed" != 0 ]; then block <"$dir/status.txt"; fi
} >"$dir/drift.md"
summary <"$dir/drift.md"

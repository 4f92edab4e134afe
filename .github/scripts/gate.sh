#!/usr/bin/env bash
# gate.sh STACK DIR: asks the gate whether what is deployed does well, and leaves in DIR the verdict, its figures
# (gate.json) and its words (gate.txt). Ends with 0 whatever the verdict; it is the next job's to act on it.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?a folder for the results}
check_stack "$stack"
mkdir -p "$dir"
rm -f "$dir"/{verdict,gate.json,gate.txt,deployed}

deployed=$(deployed_ratio "$stack")
configured=$(configured_ratio "$stack")
printf '%s' "$deployed" >"$dir/deployed"
if [ -z "$deployed" ]; then
  echo "$stack was never deployed: deploy it first." >"$dir/gate.txt"
  echo hold >"$dir/verdict"
elif ! same "$deployed" "$configured"; then
  # The figures would be of one share, and the next step counted from another.
  echo "arm_ratio of $stack is $configured, and $deployed is deployed: deploy it first." >"$dir/gate.txt"
  echo hold >"$dir/verdict"
elif same "$deployed" 0; then
  echo "Nothing of $stack runs on Graviton yet, so there is nothing to measure." >"$dir/gate.txt"
  echo none >"$dir/verdict"
else
  ask_gate "$stack" "$dir" "Pulumi.$stack.yaml"
fi
{
  echo "### $stack at $configured: $(verdict "$dir")"
  block <"$dir/gate.txt"
} | summary

#!/usr/bin/env bash
# gate.sh STACK DIR: asks the gate about the deployed ratio. Writes the verdict, the figures (gate.json) and the output
# (gate.txt) to DIR. Ends with 0 for every verdict, because the next job acts on it.
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
  echo "$stack was never deployed; deploy it first." >"$dir/gate.txt"
  echo hold >"$dir/verdict"
elif ! same "$deployed" "$configured"; then
  # The figures would be for one share, but the next step would start from another.
  echo "arm_ratio of $stack is $configured, but $deployed is deployed; deploy $configured first." >"$dir/gate.txt"
  echo hold >"$dir/verdict"
elif same "$deployed" 0; then
  echo "No pods of $stack run on Graviton yet, so the gate has nothing to measure." >"$dir/gate.txt"
  echo none >"$dir/verdict"
else
  ask_gate "$stack" "$dir" "Pulumi.$stack.yaml"
fi
{
  echo "### $stack at $configured: $(verdict "$dir")"
  block <"$dir/gate.txt"
} | summary

#!/usr/bin/env bash
# step-back.sh STACK DIR: where the gate's verdict in DIR is step-back, leaves there the commit that takes the step before,
# for propose.sh. With any other verdict it does nothing.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?the folder of the gate}
check_stack "$stack"
rm -f "$dir"/{branch,body.md,step.bundle,why.md}

if [ "$(verdict "$dir")" != step-back ]; then
  echo "The gate says $(verdict "$dir"): no step back for $stack."
  exit
fi
base=$(git rev-parse HEAD)
code=0
archshift ramp apply --stack "$stack" --back --commit --gate "$dir/gate.json" >"$dir/ramp.txt" 2>&1 || code=$?
case $code in
  0) ;;
  3)
    {
      echo "No step back for \`$stack\`: there is none before."
      block <"$dir/ramp.txt"
    } >"$dir/why.md"
    summary <"$dir/why.md"
    exit
    ;;
  *) fail "$(<"$dir/ramp.txt")" ;;
esac
{
  echo "Graviton does worse than x86 in \`$stack\`, so this goes a step back:"
  block <"$dir/gate.txt"
} >"$dir/body.md"
pack_step "$dir" "step-back/$stack" "$base"
summary <"$dir/body.md"

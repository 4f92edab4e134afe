#!/usr/bin/env bash
# step-back.sh STACK DIR: if the gate's verdict in DIR is step-back, writes to DIR the commits that go back to the step
# before the deployed one, for propose.sh. For any other verdict, does nothing.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?the folder of the gate}
check_stack "$stack"
rm -f "$dir"/{branch,title,body.md,step.bundle,why.md}

if [ "$(verdict "$dir")" != step-back ]; then
  echo "The gate's verdict is $(verdict "$dir"): no step back for $stack."
  exit
fi
base=$(git rev-parse HEAD)
deployed=$(<"$dir/deployed")
why=(--reason "The gate on the deployed ratio $deployed says step-back")
if archshift deployment compare --stack "$stack" >/dev/null; then why=(--gate "$dir/gate.json"); fi
code=0
# This also takes back a step up that was merged but not deployed.
archshift ramp apply --stack "$stack" --back --below "$deployed" --commit "${why[@]}" >"$dir/ramp.txt" 2>&1 || code=$?
if [ "$code" = 3 ]; then
  {
    echo "No step back for \`$stack\`: it is at the first step."
    block <"$dir/ramp.txt"
  } >"$dir/why.md"
  summary <"$dir/why.md"
  exit
fi
[ "$code" = 0 ] || fail "$(<"$dir/ramp.txt")"
{
  echo "Graviton performs worse than x86 in \`$stack\`, so this pull request goes a step back:"
  block <"$dir/gate.txt"
} >"$dir/body.md"
pack_step "$dir" "step-back/$stack" "$base" "$(git log -1 --format=%s)"
summary <"$dir/body.md"

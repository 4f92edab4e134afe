#!/usr/bin/env bash
# ramp.sh STACK DIR: acts on the verdict that gate.sh left in DIR. Leaves there the commits of the next step, when the
# gate passes and a step is due, or of the step before, when the gate says so; otherwise why.md. propose.sh does the rest.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?the folder of the gate}
check_stack "$stack"
rm -f "$dir"/{branch,title,body.md,step.bundle,why.md}

# The reason, and the file with its details.
nothing() {
  {
    echo "No step for \`$stack\`: $1"
    block <"$2"
  } >"$dir/why.md"
  summary <"$dir/why.md"
  exit 0
}

if ! has ramp "Pulumi.$stack.yaml"; then
  echo "Pulumi.$stack.yaml has no archshift:ramp." >"$dir/ramp.txt"
  nothing "it has no ramp." "$dir/ramp.txt"
fi
case $(verdict "$dir") in
  pass) gate=(--gate "$dir/gate.json") ;;
  none) gate=() ;;
  step-back) exec "$(dirname "$0")/step-back.sh" "$stack" "$dir" ;;
  *) nothing "the gate says $(verdict "$dir")." "$dir/gate.txt" ;;
esac

base=$(git rev-parse HEAD)
code=0
archshift ramp apply --stack "$stack" --commit "${gate[@]}" >"$dir/ramp.txt" 2>&1 || code=$?
[ "$code" != 3 ] || nothing "none is due." "$dir/ramp.txt"
[ "$code" = 0 ] || fail "$(<"$dir/ramp.txt")"

title=$(git log -1 --format=%s)
# The evidence travels with the step: the policy pack asks for it in the preview.
if [ -s "$dir/gate.json" ]; then
  evidence=$(evidence_file "$stack")
  mkdir -p "$(dirname "$evidence")"
  cp "$dir/gate.json" "$evidence"
  git add --force -- "$evidence"
  git diff --cached --quiet || git commit --quiet --message "Evidence for the step of $stack"
fi
{
  block <"$dir/ramp.txt"
  echo "The gate on what is deployed now:"
  block <"$dir/gate.txt"
  echo "The configuration holds the time of this commit as the begin of the step. [A run]($(run_url)) renews it, and" \
    "the evidence, every working day until it is merged."
} >"$dir/body.md"
pack_step "$dir" "ramp/$stack" "$base" "$title"
summary <"$dir/body.md"

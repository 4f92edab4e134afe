#!/usr/bin/env bash
# ramp.sh STACK DIR: acts on the verdict that gate.sh wrote to DIR. If the gate passes and a step is due, writes the
# commits of the next step to DIR. For the verdict step-back, writes the commits of the step back. Otherwise writes the
# reason to why.md. propose.sh then opens or closes the pull request.
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

if [ "$(<"$dir/ramp")" != yes ]; then
  echo "$stack has no archshift:ramp." >"$dir/ramp.txt"
  nothing "it has no ramp." "$dir/ramp.txt"
fi
case $(verdict "$dir") in
  pass) gate=(--gate "$dir/gate.json") ;;
  none) gate=() ;;
  step-back)
    "$(dirname "$0")/step-back.sh" "$stack" "$dir"
    exit
    ;;
  *) nothing "the gate's verdict is $(verdict "$dir")." "$dir/gate.txt" ;;
esac

base=$(git rev-parse HEAD)
code=0
archshift ramp apply --stack "$stack" --commit "${gate[@]}" >"$dir/ramp.txt" 2>&1 || code=$?
[ "$code" != 3 ] || nothing "no step is due." "$dir/ramp.txt"
[ "$code" = 0 ] || fail "$(<"$dir/ramp.txt")"

title=$(git log -1 --format=%s)
# Commit the evidence with the step, because the policy pack requires it in the preview.
if [ -s "$dir/gate.json" ]; then
  evidence=$(archshift deployment evidence --stack "$stack" --folder "$dir")
  git add --force -- "$evidence"
  git diff --cached --quiet || git commit --quiet --message "Evidence for the step of $stack"
fi
{
  block <"$dir/ramp.txt"
  echo "The gate on the deployed ratio:"
  block <"$dir/gate.txt"
  echo "The configuration records the time of this commit as the start of the step. [A run]($(run_url)) renews this" \
    "time and the evidence on every working day until the merge."
} >"$dir/body.md"
pack_step "$dir" "ramp/$stack" "$base" "$title"
summary <"$dir/body.md"

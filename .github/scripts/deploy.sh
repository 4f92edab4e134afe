#!/usr/bin/env bash
# deploy.sh STACK DIR: deploys the commit whose preview preview.sh wrote to DIR. The commit must still match main. For
# a step up, the gate must also pass on the deployed ratio. Writes the gate's verdict to DIR. After the update it ends
# with the exit code of archshift status.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?the folder of the preview}
check_stack "$stack"
rm -f "$dir"/{verdict,gate.json,gate.txt,deployed}
refuse() {
  say "$stack is not deployed: $*" >&2
  exit 1
}

# Somebody approved the preview of one commit.
head=$(git rev-parse HEAD)
[ -s "$dir/commit" ] && [ -s "$dir/exit" ] || refuse "it has no preview."
[ "$(<"$dir/exit")" = 0 ] || refuse "its preview was blocked or failed."
[ "$(<"$dir/commit")" = "$head" ] ||
  refuse "the preview is for $(<"$dir/commit"), but $head is checked out; run the workflow again."
# An approval may come days later, and somebody may repeat a run.
git_remote fetch --quiet origin "refs/heads/$(main_branch)"
git diff --quiet HEAD FETCH_HEAD -- "${PROGRAM[@]}" ||
  refuse "$(main_branch) is now at $(git rev-parse FETCH_HEAD); approve the run of that commit."

deployed=$(deployed_ratio "$stack")
configured=$(configured_ratio "$stack")
printf '%s' "$deployed" >"$dir/deployed"
if [ -z "$deployed" ] || same "$deployed" 0; then
  echo "No pods of $stack run on Graviton yet, so the gate has nothing to measure."
elif larger "$configured" "$deployed"; then
  # The gate measures the deployed share, so it needs the configuration that deployed it.
  for commit in $(git rev-list --first-parent HEAD -- "Pulumi.$stack.yaml"); do
    git show "$commit:Pulumi.$stack.yaml" >"$dir/deployed.yaml" 2>/dev/null || continue
    was=$(configured_ratio "$stack" "$dir/deployed.yaml") || continue
    if same "$was" "$deployed"; then break; fi
    was=
  done
  [ -n "${was:-}" ] || refuse "arm_ratio $deployed is deployed, but no commit of Pulumi.$stack.yaml has it." \
    "Set arm_ratio to $deployed, deploy that, and continue from there."
  ask_gate "$stack" "$dir" "$dir/deployed.yaml"
  block <"$dir/gate.txt" | summary
  case $(verdict "$dir") in
    # The program reads the evidence there, and the policy pack requires it.
    pass)
      evidence=$(evidence_file "$stack")
      mkdir -p "$(dirname "$evidence")"
      cp "$dir/gate.json" "$evidence"
      ;;
    none) ;;
    *) refuse "the gate's verdict on $deployed is $(verdict "$dir"), so a step up to $configured is not allowed." ;;
  esac
else
  echo "$stack goes from $deployed to $configured. This is no step up, so the gate is not asked."
fi

pulumi up --stack "$stack" --policy-pack policies --yes --non-interactive --suppress-outputs
code=0
archshift status --stack "$stack" >"$dir/status.txt" 2>&1 || code=$?
cat "$dir/status.txt"
block <"$dir/status.txt" | summary
case $code in
  0) ;;
  3) reason="workloads that are not exact" ;;
  5) reason="pending pods or a stuck rollout" ;;
  *) reason="an error" ;;
esac
[ "$code" = 0 ] || {
  say "$stack is deployed, but archshift status reports $reason (exit code $code)." >&2
  exit "$code"
}

#!/usr/bin/env bash
# deploy.sh STACK DIR: deploys what preview.sh previewed into DIR, if it still is what main wants and, for a step up, the
# gate passes on what is deployed now. Leaves the gate's verdict in DIR.
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

# What somebody approved is the preview of one commit.
head=$(git rev-parse HEAD)
[ -s "$dir/commit" ] && [ -s "$dir/exit" ] || refuse "there is no preview of it."
[ "$(<"$dir/exit")" = 0 ] || refuse "its preview is blocked or failed."
[ "$(<"$dir/commit")" = "$head" ] ||
  refuse "the preview is of $(<"$dir/commit"), and $head is checked out; run the workflow again."
# An approval may come days later, or a run be started again.
git_remote fetch --quiet origin "refs/heads/$(main_branch)"
git diff --quiet HEAD FETCH_HEAD -- "${PROGRAM[@]}" ||
  refuse "$(main_branch) has moved on to $(git rev-parse FETCH_HEAD); approve the run of that commit."

deployed=$(deployed_ratio "$stack")
configured=$(configured_ratio "$stack")
printf '%s' "$deployed" >"$dir/deployed"
if [ -z "$deployed" ] || same "$deployed" 0; then
  echo "Nothing of $stack runs on Graviton yet, so there is nothing that a gate could measure."
elif larger "$configured" "$deployed"; then
  # The gate measures the share that is deployed, so it is asked with the configuration that deployed it.
  for commit in $(git rev-list --first-parent HEAD -- "Pulumi.$stack.yaml"); do
    git show "$commit:Pulumi.$stack.yaml" >"$dir/deployed.yaml" 2>/dev/null || continue
    was=$(configured_ratio "$stack" "$dir/deployed.yaml") || continue
    if same "$was" "$deployed"; then break; fi
    was=
  done
  [ -n "${was:-}" ] || refuse "$deployed is deployed, and no commit of Pulumi.$stack.yaml says so." \
    "Set arm_ratio to $deployed, deploy that, and go on from there."
  ask_gate "$stack" "$dir" "$dir/deployed.yaml"
  block <"$dir/gate.txt" | summary
  case $(verdict "$dir") in
    # The program reads it there, and the policy pack asks for it.
    pass)
      evidence=$(evidence_file "$stack")
      mkdir -p "$(dirname "$evidence")"
      cp "$dir/gate.json" "$evidence"
      ;;
    none) ;;
    *) refuse "the gate on $deployed says $(verdict "$dir"), so it does not go up to $configured." ;;
  esac
else
  echo "$stack goes from $deployed to $configured, which is no step up: the gate is not asked."
fi

pulumi up --stack "$stack" --policy-pack policies --yes --non-interactive --suppress-outputs
code=0
archshift status --stack "$stack" >"$dir/status.txt" 2>&1 || code=$?
cat "$dir/status.txt"
block <"$dir/status.txt" | summary
[ "$code" = 0 ] || fail "$stack is deployed, and archshift status does not find what is wanted (exit code $code)."

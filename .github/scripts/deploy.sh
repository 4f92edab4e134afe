#!/usr/bin/env bash
# deploy.sh STACK DIR: deploys the commit whose preview preview.sh wrote to DIR, if archshift deployment check allows it.
# That writes the gate's verdict to DIR. After the update it ends with the exit code of archshift status.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?the folder of the preview}
check_stack "$stack"

git_remote fetch --quiet origin "refs/heads/$(main_branch)"
code=0
archshift deployment check --stack "$stack" --main "$(git rev-parse FETCH_HEAD)" --folder "$dir" \
  >"$dir/decision.txt" 2>&1 || code=$?
if [ -s "$dir/gate.txt" ]; then block <"$dir/gate.txt" | summary; fi
decision=$(<"$dir/decision.txt")
[ "$code" = 0 ] || {
  say "${decision#archshift: }" >&2
  exit "$code"
}
say "$decision"

# The program refuses another configuration than the one that was checked, and records the commit.
config=$(<"$dir/config")
commit=$(git rev-parse HEAD)
ARCHSHIFT_COMMIT=$commit ARCHSHIFT_CONFIG=$config pulumi up --stack "$stack" --policy-pack policies --yes \
  --non-interactive --suppress-outputs
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

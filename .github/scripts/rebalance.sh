#!/usr/bin/env bash
# rebalance.sh STACK MAX_PODS: moves at most MAX_PODS pods that autoscalers or lost nodes left on the wrong side. A
# workload that only an update can bring right is named on the page of the run, and does not fail the job.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} most=${2:-}
check_stack "$stack"
[[ $most =~ ^[1-9][0-9]*$ ]] || fail "The second argument must be a number of pods, but it is '$most'."

compared=0
differs=$(archshift deployment compare --stack "$stack") || compared=$?
[[ $compared =~ ^(0|3)$ ]] || fail "The rebalance of $stack failed: archshift deployment ended with $compared."
if [ "$compared" = 3 ]; then
  say "$differs. The next deployment moves the pods."
  exit
fi

# A runner that cancels a job sends signals to this script alone, and kills everything 10 seconds later. archshift sets
# back what holds only while pods move.
log=$(mktemp)
archshift rebalance --stack "$stack" --max-pods "$most" >"$log" 2>&1 &
started=$! code=0 cancelled=
trap 'cancelled=yes; kill -TERM "$started" 2>/dev/null' INT TERM HUP
wait "$started" || code=$?
while kill -0 "$started" 2>/dev/null; do
  code=0
  wait "$started" || code=$?
done
output=$(<"$log")
rm -f "$log"
printf '%s\n' "$output"
[ -z "$cancelled" ] || fail "The rebalance of $stack was cancelled; the next one goes on."
{
  echo "\`$stack\`:"
  block <<<"$output"
} | summary
case $code in
  0 | 3) ;;
  5) fail "Pods of $stack are pending, or a rollout is stuck." ;;
  *) fail "archshift rebalance of $stack ended with $code." ;;
esac

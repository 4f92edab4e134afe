#!/usr/bin/env bash
# cluster.sh STACK: writes a kubeconfig for the stack's cluster, under the name that the stack calls it.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-}
check_stack "$stack"

config=$(pulumi config --json --stack "$stack")
# On two lines: the cluster's name at EKS, and what the kubeconfig shall call it.
names=$(python3 -c '
import json, sys
config = json.load(sys.stdin)
print(config.get("archshift:cluster", {}).get("objectValue", {}).get("name", ""))
print(config.get("archshift:kube_context", {}).get("value", ""))
' <<<"$config")
cluster=${EKS_CLUSTER:-${names%%$'\n'*}}
context=${names#*$'\n'}
[ -n "$cluster" ] || fail "Pulumi.$stack.yaml names no archshift:cluster:" \
  "set the variable EKS_CLUSTER of the environment to the cluster's name at EKS."
aws eks update-kubeconfig --name "$cluster" --alias "${context:-$cluster}"

#!/usr/bin/env bash
# cluster.sh STACK: writes a kubeconfig for the stack's cluster, with the context that the stack's file names.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-}
check_stack "$stack"

config=$(pulumi config --json --stack "$stack")
# Two lines: the cluster's name in EKS, and the name of the context.
names=$(python3 -c '
import json, sys
config = json.load(sys.stdin)
print(config.get("archshift:cluster", {}).get("objectValue", {}).get("name", ""))
print(config.get("archshift:kube_context", {}).get("value", ""))
' <<<"$config")
cluster=${EKS_CLUSTER:-${names%%$'\n'*}}
context=${names#*$'\n'}
[ -n "$cluster" ] || fail "Pulumi.$stack.yaml has no archshift:cluster:" \
  "set the environment's variable EKS_CLUSTER to the cluster's name in EKS."
aws eks update-kubeconfig --name "$cluster" --alias "${context:-$cluster}"

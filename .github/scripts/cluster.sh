#!/usr/bin/env bash
# cluster.sh STACK: writes a kubeconfig for the stack's cluster, with the context that the stack's file names.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-}
check_stack "$stack"

# Two lines: the cluster's name in EKS, and the name of the context.
names=$(archshift deployment cluster --stack "$stack")
aws eks update-kubeconfig --name "${names%%$'\n'*}" --alias "${names#*$'\n'}"

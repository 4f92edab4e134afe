#!/usr/bin/env bash
# gate.sh STACK DIR: asks the gate about the deployed ratio. Writes the verdict, the figures (gate.json) and the output
# (gate.txt) to DIR. Ends with 0 for every verdict, because the next job acts on it.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?a folder for the results}
check_stack "$stack"

title=$(archshift deployment gate --stack "$stack" --folder "$dir")
{
  echo "$title"
  block <"$dir/gate.txt"
} | summary

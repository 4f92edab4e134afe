#!/usr/bin/env bash
# drift-issue.sh STACK DIR: opens, updates or closes the stack's one issue about drift, as drift.sh found in DIR.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?the folder of drift.sh}
check_stack "$stack"
[ -s "$dir/answer" ] || fail "The check for drift of $stack failed, so its issue stays as it is; $(run_url) says why."

marker="<!-- archshift-drift:$stack -->"
numbers=$(gh api --paginate "repos/$(repository)/issues?state=open&per_page=100" \
  --jq ".[] | select(.pull_request == null and .user.type == \"Bot\" and ((.body // \"\") | startswith(\"$marker\"))) | .number")
number=${numbers%%$'\n'*}

case $(<"$dir/answer") in
  yes)
    text="$marker"$'\n'"$(<"$dir/drift.md")"$'\n\n'"[This run saw it last]($(run_url))"
    printf '%s' "${text:0:LIMIT}" >"$dir/issue.md"
    if [ -n "$number" ]; then
      gh api --silent --method PATCH "repos/$(repository)/issues/$number" -F body=@"$dir/issue.md"
      say "updated #$number"
    else
      number=$(gh api --method POST "repos/$(repository)/issues" --jq .number \
        -f title="Drift in $stack" -F body=@"$dir/issue.md")
      say "opened #$number"
    fi
    ;;
  no)
    if [ -n "$number" ]; then
      gh api --silent --method POST "repos/$(repository)/issues/$number/comments" -f body="The drift is gone, as $(run_url) shows."
      gh api --silent --method PATCH "repos/$(repository)/issues/$number" -f state=closed
      say "closed #$number"
    fi
    ;;
esac

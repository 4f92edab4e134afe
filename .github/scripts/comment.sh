#!/usr/bin/env bash
# comment.sh STACK NUMBER DIR: writes DIR's preview as a comment under the pull request, or over the one it wrote
# before. A preview that ended before it wrote anything is said too.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} number=${2:-} dir=${3:?the folder of the preview}
check_stack "$stack"
[[ $number =~ ^[0-9]+$ ]] || fail "The second argument is the number of a pull request; it is '$number'."

marker="<!-- archshift-preview:$stack -->"
if [ -s "$dir/preview.md" ]; then
  text=$(<"$dir/preview.md")
else
  text="### archshift: no preview of \`$stack\`"$'\n\n'"It ended before it wrote anything; [the log]($(run_url)) says why."
fi
text="$marker"$'\n'"${text#"$marker"}"
if ((${#text} > LIMIT)); then
  note="$marker"$'\n\n'"> Cut to what a comment holds; [the run]($(run_url)) has all of it."$'\n\n'
  text=${text#"$marker"}
  text="$note${text:0:LIMIT-${#note}}"
fi
body=$(mktemp)
trap 'rm -f "$body"' EXIT
printf '%s' "$text" >"$body"

# Only a comment of a bot: anybody may write the marker into a comment of their own.
ids=$(gh api --paginate "repos/$(repository)/issues/$number/comments?per_page=100" \
  --jq ".[] | select(.user.type == \"Bot\" and (.body | startswith(\"$marker\"))) | .id")
if [ -n "$ids" ]; then
  gh api --silent --method PATCH "repos/$(repository)/issues/comments/${ids%%$'\n'*}" -F body=@"$body"
  echo "updated the comment on $stack under #$number"
else
  gh api --silent --method POST "repos/$(repository)/issues/$number/comments" -F body=@"$body"
  echo "commented on $stack under #$number"
fi

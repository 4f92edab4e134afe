#!/usr/bin/env bash
# comment.sh STACK NUMBER DIR: writes the preview in DIR as a comment on the pull request, or replaces its earlier
# comment. Without a preview, the comment says that there is none.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} number=${2:-} dir=${3:?the folder of the preview}
check_stack "$stack"
[[ $number =~ ^[0-9]+$ ]] || fail "The second argument must be the number of a pull request, but it is '$number'."

marker="<!-- archshift-preview:$stack -->"
if [ -s "$dir/preview.md" ]; then
  text=$(<"$dir/preview.md")
else
  text="### archshift: no preview of \`$stack\`"$'\n\n'"The preview ended without a result; [the log]($(run_url)) says why."
fi
text="$marker"$'\n'"${text#"$marker"}"
if ((${#text} > LIMIT)); then
  note="$marker"$'\n\n'"> Cut to the length limit of comments; [the run]($(run_url)) has the whole text."$'\n\n'
  text=${text#"$marker"}
  text="$note${text:0:LIMIT-${#note}}"
fi
mkdir -p "$dir"
body=$dir/comment.md
printf '%s' "$text" >"$body"

# Use only a bot's comment, because anybody can write the marker into their own comment.
ids=$(gh api --paginate "repos/$(repository)/issues/$number/comments?per_page=100" \
  --jq ".[] | select(.user.type == \"Bot\" and (.body | startswith(\"$marker\"))) | .id")
if [ -n "$ids" ]; then
  gh api --silent --method PATCH "repos/$(repository)/issues/comments/${ids%%$'\n'*}" -F body=@"$body"
  echo "updated the comment on $stack under #$number"
else
  gh api --silent --method POST "repos/$(repository)/issues/$number/comments" -F body=@"$body"
  echo "commented on $stack under #$number"
fi

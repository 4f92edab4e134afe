#!/usr/bin/env bash
# propose.sh STACK DIR: opens or updates the pull request for the step that ramp.sh or step-back.sh wrote to DIR. If DIR
# has a reason for no step instead, closes the ramp's open pull request with it. Each branch has at most one open pull
# request. This script has a token with write access, so it runs only git and gh.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
stack=${1:-} dir=${2:?the folder of the step}
check_stack "$stack"

# Closes the ramp's open pull request with the reason in a file.
close_ramp() {
  local number
  number=$(open_pull_request "ramp/$stack")
  [ -n "$number" ] || return 0
  gh api --silent --method POST "repos/$(repository)/issues/$number/comments" -F body=@"$1"
  gh api --silent --method PATCH "repos/$(repository)/pulls/$number" -f state=closed
  say "closed #$number"
}

if [ ! -s "$dir/step.bundle" ]; then
  [ -s "$dir/why.md" ] ||
    fail "The check for a step of $stack failed, so nothing changes; $(run_url) says why."
  close_ramp "$dir/why.md"
  exit
fi

branch=$(<"$dir/branch")
[[ $branch == "ramp/$stack" || $branch == "step-back/$stack" ]] || fail "'$branch' is not a branch for a step of $stack."
number=$(open_pull_request "$branch")
if [ "$branch" = "step-back/$stack" ]; then
  close_ramp "$dir/body.md"
  # A reviewer may be reading it, so its commit must stay.
  if [ -n "$number" ]; then
    say "#$number already takes $stack a step back"
    exit
  fi
fi

tip=$(git_remote ls-remote origin "refs/heads/$branch")
tip=${tip%%[[:space:]]*}
if [ -n "$tip" ]; then
  git_remote fetch --quiet origin "$tip"
  author=$(git log -1 --format=%ce "$tip")
  [ "$author" = "$BOT_EMAIL" ] || fail "The last commit of the branch $branch is by $author, so it is not overwritten:" \
    "merge or delete the branch, then run this again."
fi
git fetch --quiet "$dir/step.bundle" HEAD
step=$(git rev-parse FETCH_HEAD)
# With the lease, a newer commit on the branch is not overwritten either.
git_remote push --quiet --force-with-lease="refs/heads/$branch:$tip" origin "$step:refs/heads/$branch"

title=$(<"$dir/title")
text=$(<"$dir/body.md")
printf '%s' "${text:0:LIMIT}" >"$dir/body.md"
if [ -n "$number" ]; then
  gh api --silent --method PATCH "repos/$(repository)/pulls/$number" -f title="$title" -F body=@"$dir/body.md"
  say "updated #$number: $title"
else
  number=$(gh api --method POST "repos/$(repository)/pulls" --jq .number \
    -f title="$title" -f head="$branch" -f base="$(main_branch)" -F body=@"$dir/body.md")
  say "opened #$number: $title"
fi

# Changes with a workflow's own token start no workflows, except these dispatches.
gh api --silent --method POST "repos/$(repository)/actions/workflows/ci.yml/dispatches" -f ref="$branch"
gh api --silent --method POST "repos/$(repository)/actions/workflows/preview.yml/dispatches" \
  -f ref="$branch" -f "inputs[pull_request]=$number"

# Functions for the scripts beside it. The scripts work in a pipeline and on a person's machine. They need bash, git and
# archshift, and gh to write to GitHub. On a person's machine, set GITHUB_REPOSITORY and GH_TOKEN as a runner would.
# shellcheck shell=bash disable=SC2034

# Count characters and not bytes, as GitHub does.
export LC_ALL=C.UTF-8
LIMIT=65536

# The author of the pipelines' commits. The scripts overwrite a branch only if its last commit has this address.
BOT_NAME="github-actions[bot]"
BOT_EMAIL="41898282+github-actions[bot]@users.noreply.github.com"
export GIT_AUTHOR_NAME=$BOT_NAME GIT_AUTHOR_EMAIL=$BOT_EMAIL
export GIT_COMMITTER_NAME=$BOT_NAME GIT_COMMITTER_EMAIL=$BOT_EMAIL

# GitHub obeys lines of the log such as ::add-mask::x or ::error::x, whoever prints them. Names of a cluster and the
# output of other programs are in the log too, so it obeys none until the script ends.
if [ "${GITHUB_ACTIONS:-}" = true ]; then
  resume=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  printf '::stop-commands::%s\n' "$resume"
  trap 'printf "\n::%s::\n" "$resume"' EXIT
fi

# Prints one sentence and ends the script.
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Checks the name of a stack, so that it is safe in file names, branches and jq filters.
check_stack() {
  [[ ${1:-} =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] ||
    fail "The first argument must be the name of a stack with only letters, digits and . _ -, but it is '${1:-}'."
}

# Standard input to the page of the run, or to the terminal.
summary() {
  cat >>"${GITHUB_STEP_SUMMARY:-/dev/stdout}"
}

# Prints standard input as a block of code without secrets, which the input cannot close.
block() {
  archshift deployment block --stack "${stack:?}"
}

# Prints a line to the log and to the page of the run.
say() {
  printf '%s\n' "$*"
  [ -z "${GITHUB_STEP_SUMMARY:-}" ] || printf '%s\n' "$*" >>"$GITHUB_STEP_SUMMARY"
}

# git with GH_TOKEN, if it is set, for a remote on GitHub. The token is never stored or on a command line.
git_remote() {
  if [ -n "${GH_TOKEN:-}" ]; then
    git -c credential.helper= -c credential.helper='!gh auth git-credential' "$@"
  else
    git "$@"
  fi
}

repository() {
  printf '%s' "${GITHUB_REPOSITORY:?names the repository as OWNER/NAME}"
}

# The address of this run's log.
run_url() {
  [ -z "${CI_PIPELINE_URL:-}" ] || {
    printf '%s' "$CI_PIPELINE_URL" # GitLab's
    return
  }
  printf '%s/%s/actions/runs/%s' "${GITHUB_SERVER_URL:-https://github.com}" "$(repository)" "${GITHUB_RUN_ID:-0}"
}

# The branch that deploy.yml deploys.
main_branch() {
  printf '%s' "${ARCHSHIFT_BRANCH:-main}"
}

# The number of the open pull request of a branch of this repository, or nothing.
open_pull_request() {
  local branch=$1 owner numbers
  owner=$(repository)
  # GitHub ignores a malformed head= filter, so check the answer too.
  numbers=$(gh api "repos/$(repository)/pulls?state=open&per_page=100&head=${owner%%/*}:$branch" \
    --jq ".[] | select(.head.ref == \"$branch\") | .number")
  printf '%s' "${numbers%%$'\n'*}"
}

# Writes the commits since a base, their branch and their title for propose.sh.
pack_step() {
  local dir=$1 branch=$2 base=$3 title=$4
  git bundle create --quiet "$dir/step.bundle" "$base..HEAD"
  printf '%s' "$branch" >"$dir/branch"
  printf '%s' "${title:0:200}" >"$dir/title"
}

# The verdict of an earlier job; without one, unknown.
verdict() {
  if [ -s "$1/verdict" ]; then cat "$1/verdict"; else echo unknown; fi
}

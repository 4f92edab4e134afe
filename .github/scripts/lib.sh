# What the scripts beside it share. They run the same on a person's machine and in a pipeline, and need bash, git,
# python3 and, where they write to GitHub, gh; the environment names what a runner would: GITHUB_REPOSITORY, GH_TOKEN.
# shellcheck shell=bash disable=SC2034

# Lengths are of characters, not of bytes: GitHub counts characters.
export LC_ALL=C.UTF-8
LIMIT=65536

# Commits of the pipelines carry this address, and only branches whose last commit does are rewritten.
BOT_NAME="github-actions[bot]"
BOT_EMAIL="41898282+github-actions[bot]@users.noreply.github.com"
export GIT_AUTHOR_NAME=$BOT_NAME GIT_AUTHOR_EMAIL=$BOT_EMAIL
export GIT_COMMITTER_NAME=$BOT_NAME GIT_COMMITTER_EMAIL=$BOT_EMAIL

# What a deploy depends on; deploy.yml starts for these.
PROGRAM=("Pulumi*.yaml" __main__.py pyproject.toml uv.lock archshift components policies gates)

# One sentence, and out.
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Checks the name of a stack; from here on it is safe in file names, branches and jq filters.
check_stack() {
  [[ ${1:-} =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] ||
    fail "The first argument is the name of a stack, letters, digits and . _ - alone; it is '${1:-}'."
}

# Standard input to the page of the run, or to the terminal.
summary() {
  cat >>"${GITHUB_STEP_SUMMARY:-/dev/stdout}"
}

# Standard input as a block of code, of 25,000 characters at most: two of them fit into one text. What stands in it
# cannot close the block.
block() {
  local text
  text=$(tr '`' "'")
  ((${#text} <= 25000)) || text="${text:0:25000}"$'\n(cut here)'
  echo '```text'
  printf '%s\n' "$text"
  echo '```'
}

# One line to the log and to the page of the run.
say() {
  printf '%s\n' "$*"
  [ -z "${GITHUB_STEP_SUMMARY:-}" ] || printf '%s\n' "$*" >>"$GITHUB_STEP_SUMMARY"
}

# git with GH_TOKEN, where there is one, for a remote on GitHub; it is neither kept nor in a command line.
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

# Where people read the log of this run.
run_url() {
  [ -z "${CI_PIPELINE_URL:-}" ] || {
    printf '%s' "$CI_PIPELINE_URL" # GitLab's
    return
  }
  printf '%s/%s/actions/runs/%s' "${GITHUB_SERVER_URL:-https://github.com}" "$(repository)" "${GITHUB_RUN_ID:-0}"
}

# The branch that is deployed.
main_branch() {
  printf '%s' "${ARCHSHIFT_BRANCH:-main}"
}

# The number of the open pull request of a branch of this repository, or nothing.
open_pull_request() {
  local branch=$1 owner numbers
  owner=$(repository)
  # The filter head= is ignored by GitHub when it is malformed, so the answer is looked at too.
  numbers=$(gh api "repos/$(repository)/pulls?state=open&per_page=100&head=${owner%%/*}:$branch" \
    --jq ".[] | select(.head.ref == \"$branch\") | .number")
  printf '%s' "${numbers%%$'\n'*}"
}

# Leaves the commits since a base, the branch they are for, and their title, to propose.sh.
pack_step() {
  local dir=$1 branch=$2 base=$3 title=$4
  git bundle create --quiet "$dir/step.bundle" "$base..HEAD"
  printf '%s' "$branch" >"$dir/branch"
  printf '%s' "${title:0:200}" >"$dir/title"
}

# The number that the stack's state holds, or nothing for a stack that was never deployed.
deployed_ratio() {
  local outputs
  outputs=$(pulumi stack output --json --stack "$1")
  sed -n 's/^ *"arm_ratio": *"\{0,1\}\([0-9.]*\)"\{0,1\},\{0,1\}$/\1/p' <<<"$outputs"
}

# The number in a file of configuration.
configured_ratio() {
  pulumi config get arm_ratio --stack "$1" --config-file "${2:-Pulumi.$1.yaml}"
}

# Whether the first number is larger than the second; what is no number ends the script.
larger() {
  [[ $1 =~ ^[0-9]+(\.[0-9]+)?$ && $2 =~ ^[0-9]+(\.[0-9]+)?$ ]] ||
    fail "arm_ratio is to be compared, and '$1' or '$2' is not a number."
  awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > b) }'
}

# Whether two numbers are the same.
same() {
  ! larger "$1" "$2" && ! larger "$2" "$1"
}

# Whether a stack's file has a key of archshift's.
has() {
  grep -q "^ *[\"']\{0,1\}archshift:$1[\"']\{0,1\}:" "$2"
}

# Where the stack's evidence is kept in the repository.
evidence_file() {
  local config file
  config=$(pulumi config --json --stack "$1")
  file=$(python3 -c '
import json, sys
gate = json.load(sys.stdin).get("archshift:gate", {}).get("objectValue", {})
print(gate.get("evidence") or sys.argv[1])
' "gates/$1.json" <<<"$config")
  [[ $file != /* && $file != *..* && $file != -* ]] || fail "archshift:gate.evidence of $1 is '$file', which is no file of the repository."
  printf '%s' "$file"
}

# Asks the gate with a file of configuration; leaves gate.json, gate.txt and verdict in the folder.
# Without archshift:gate the verdict
# is none; what is not one of the gate's four answers is unknown, and unknown holds.
ask_gate() {
  local stack=$1 dir=$2 config=$3 code=0
  rm -f "$dir/gate.json"
  if ! has gate "$config"; then
    echo "$stack has no archshift:gate, so nothing measures whether Graviton does as well as x86." >"$dir/gate.txt"
    echo none >"$dir/verdict"
    return
  fi
  archshift gate --stack "$stack" --config-file "$config" --output "$dir/gate.json" >"$dir/gate.txt" 2>&1 || code=$?
  case $code in
    0) echo pass ;;
    3) echo hold ;;
    5) echo step-back ;;
    *) echo unknown ;;
  esac >"$dir/verdict"
}

# The verdict that an earlier job left; none left is unknown.
verdict() {
  if [ -s "$1/verdict" ]; then cat "$1/verdict"; else echo unknown; fi
}

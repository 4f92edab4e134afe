#!/usr/bin/env bash
# Says on the page of the run why a fork's pull request has no preview, and how it gets one.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"

summary <<'TEXT'
### No preview: this pull request is from a fork

A preview runs the pull request's own code with the credentials of the clusters, so it never runs for a fork.
Whoever may push to this repository reads the change, and then has it previewed under a branch here:

    gh pr checkout NUMBER --branch from-fork-NUMBER
    git push origin from-fork-NUMBER
    gh workflow run preview.yml --ref from-fork-NUMBER -f pull_request=NUMBER

The commit is the same, so the checks of that run count for this pull request.
TEXT

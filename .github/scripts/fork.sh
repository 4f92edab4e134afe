#!/usr/bin/env bash
# Explains on the page of the run why a fork's pull request has no preview, and how to get one.
set -euo pipefail
# shellcheck source=.github/scripts/lib.sh
source "$(dirname "$0")/lib.sh"

summary <<'TEXT'
### No preview: this pull request is from a fork

A preview runs the pull request's own code with the credentials of the clusters, so it never runs for a fork.
Somebody who may push to this repository must read the change first, and can then preview it in a branch here:

    gh pr checkout NUMBER --branch from-fork-NUMBER
    git push origin from-fork-NUMBER
    gh workflow run preview.yml --ref from-fork-NUMBER -f pull_request=NUMBER

The commit is the same, so the checks of that run also count for this pull request.
TEXT

"""Start of the installed ``archshift``: Ctrl-C ends it with one line, even while modules load."""

import sys


def main() -> int:
    """Load the command line and run it; returns the exit code."""
    try:
        from archshift.cli.main import main as run
    except KeyboardInterrupt:
        print("archshift: interrupted; nothing was changed", file=sys.stderr)  # noqa: T201
        return 130
    return run()

"""``make bench``: run all benchmarks except the longest, or the named ones (``python -m bench plan``)."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
LONGEST = ("scale", "manifests")
"""These take ten minutes or need a folder, so they run only by name."""


def main() -> int:
    """Run each benchmark in its own process; returns the exit code."""
    names = sys.argv[1:] or [name for name in BENCHMARKS if name not in LONGEST]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"bench: {unknown[0]!r} is invalid; use {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 1
    failed = 0
    for name in names:
        print(f"== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode
    if not sys.argv[1:]:
        print(f"not run, because it takes long: python -m bench {' '.join(LONGEST)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""``make bench``: run every benchmark, or those named (``python -m bench plan engine``)."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main() -> int:
    """Run the benchmarks in processes of their own; returns the exit code."""
    names = sys.argv[1:] or BENCHMARKS
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"bench: {unknown[0]!r} is none of {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 1
    failed = 0
    for name in names:
        print(f"== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""Fuzzes the parsers: ``python -m bench.fuzz [--minutes N] [--seed N] [TARGET ...]``.

The targets are those of ``tests/fuzz.py``: manifests, configs, layers, challenges, kubeconfigs, stack files
and others. Prints how many inputs each target got, and each input that ended in another exception than the
expected ones. The exit code is 1 if there was one. Without ``--minutes`` it runs for one.
"""

import argparse
import random
import sys
import time

from tests.fuzz import TARGETS, mutate


def main() -> int:
    """Mutate seeds, and what came from them, until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long in all")
    parser.add_argument("--seed", type=int, default=None, help="the number to repeat a run with")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"{name!r} is not a target")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    source = random.Random(seed)  # noqa: S311
    failures = 0
    for name in names:
        target, until = TARGETS[name], time.monotonic() + 60 * options.minutes / len(names)
        pool, count, slowest = list(target.seeds), 0, 0.0
        while time.monotonic() < until:
            data = mutate(source.choice(pool), source, target.seeds)
            begun = time.thread_time()
            try:
                target.check(data)
            except Exception as error:
                failures += 1
                print(f"{name}: {type(error).__name__}: {error}: {data[:2000]!r}")
            slowest = max(slowest, time.thread_time() - begun)
            count += 1
            # Some changes only show after others.
            if source.random() < 0.05:
                pool[source.randrange(len(pool))] = data
            if source.random() < 0.01:
                pool = list(target.seeds)
        print(f"{name:16} {count:8} inputs, the slowest {slowest:.2f} processor s")
    print(f"seed {seed}: {failures} unexpected exceptions")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

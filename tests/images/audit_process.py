"""An audit in a process of its own, so that its memory can be measured: a job in JSON in, the result out.

The job has ``images``, ``plain_http`` (hosts), ``deep`` and ``limits``; the result has ``verdicts`` (image to
verdict and reason), ``seconds`` and ``mib`` (the most memory at one time).
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from archshift.images.audit import AuditOptions, audit_images
from archshift.images.registry.client import Limits, RegistryHost


def audit(images: list[str], plain_http: list[str], *, deep: bool = True, **limits: float) -> dict[str, Any]:
    """Run an audit and return its result."""
    job = {"images": images, "plain_http": plain_http, "deep": deep, "limits": limits}
    done = subprocess.run(
        [sys.executable, "-m", "tests.images.audit_process"],
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin)
    options = AuditOptions(
        hosts={host: RegistryHost(plain_http=True) for host in job["plain_http"]},
        docker_config=Path("/none/config.json"),
        ecr=False,
        cache=None,
        deep=job["deep"],
        limits=Limits(**job["limits"]),
    )
    begun = time.monotonic()
    verdicts = audit_images(job["images"], options)
    seconds = time.monotonic() - begun
    print(
        json.dumps(
            {
                "verdicts": {image: [found.verdict, found.reason] for image, found in verdicts.items()},
                "seconds": seconds,
                "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()

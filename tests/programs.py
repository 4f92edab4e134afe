"""Programs of Debian's that tests run; installed where that is possible."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def debian_program(name: str, package: str = "") -> str:
    """Return the path of a program, installing its package where it is missing and that is possible.

    Raises:
        RuntimeError: It is missing and cannot be installed. Never a skip: the tests would prove nothing.
    """
    package = package or name
    found = shutil.which(name)
    if found:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        # apt-get fails while another process of the same run uses it.
        with Path(tempfile.gettempdir(), "apt-get.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
                subprocess.run(
                    ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *command],
                    check=True,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                )
        found = shutil.which(name)
    if not found:
        raise RuntimeError(f"{name} is not on PATH: install Debian's package {package}")
    return found

"""Not one of the tests: what `test_run_tests.py` has run, and interrupts."""

import os
import subprocess
import tempfile
import time
from pathlib import Path


def test_starts_a_server_that_nobody_stops() -> None:
    server = subprocess.Popen(["sleep", "600"], start_new_session=True)
    file = Path(os.environ["NOTES"])
    file.with_suffix(".partial").write_text(f"{server.pid}\n{tempfile.mkdtemp()}\n")
    file.with_suffix(".partial").rename(file)
    time.sleep(float(os.environ["SECONDS"]))

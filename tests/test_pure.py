"""What calls itself pure is so: it loads no client of anything."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

CLIENTS = ("aiohttp", "boto3", "httpx2", "lightkube", "pulumi", "socket", "sqlite3", "ssl", "subprocess")


def _calls_itself_pure(path: Path) -> bool:
    parts = path.read_text().split('"""', 2)
    return len(parts) == 3 and not parts[0] and "Pure" in parts[1]


def test_modules_that_call_themselves_pure_load_no_client() -> None:
    """In a fresh interpreter, all of them together."""
    paths = [path for path in (ROOT / "archshift").rglob("*.py") if _calls_itself_pure(path)]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    modules = [name.removesuffix(".__init__") for name in names]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {CLIENTS!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(modules) > 20
    assert done.stdout.split() == []

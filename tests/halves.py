"""Runs all tests as ``make test`` does: two halves of the modules side by side, for most of their time is waiting.

Each half is a pytest of its own, and gets the words of the command line. ``pytest`` alone runs them one after another.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECOND = "p"  # the letter of the first module of the second half
NOTHING = 5  # pytest's exit code if no test was chosen


def halves() -> tuple[list[str], list[str]]:
    """The modules of both halves; the drop-ins bring their own tests."""
    modules = sorted((ROOT / "tests").glob("test_*.py"))
    first = [str(path) for path in modules if path.name.removeprefix("test_") < SECOND]
    second = [str(path) for path in modules if path.name.removeprefix("test_") >= SECOND]
    return first, [*second, str(ROOT / "processors")]


def main(words: Sequence[str]) -> int:
    """Show the first half as it runs and the second when it is over; 0 if both are good."""
    first, second = halves()
    command = [sys.executable, "-m", "pytest", *words]
    with tempfile.TemporaryFile("w+") as told:
        other = subprocess.Popen([*command, *second], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        try:
            codes = [subprocess.run([*command, *first], cwd=ROOT, check=False).returncode, other.wait()]
        finally:
            other.terminate()
            other.wait()
        told.seek(0)
        sys.stdout.write(told.read())
    return next((code for code in codes if code not in (0, NOTHING)), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The sandbox as tests use it, and a look from outside at what runs."""

import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from magickbox.engines.limits import Limits
from magickbox.engines.protection import AUTO, Protection, find_out


def sandbox(box: Path, limits: Limits | None = None, shows: Sequence[Path] = ()) -> Protection:
    """What protects on this machine; without a working bubblewrap skip, but fail in CI."""
    found = find_out(AUTO, box, limits or Limits(), shows, box.parent / f"{box.name}-etc")
    if found.sandbox is None and os.environ.get("CI", "").casefold() == "true":
        pytest.fail(f"CI has to have a sandbox: {found.warning}")
    if found.sandbox is None:
        pytest.skip(str(found.warning))
    return found


def groups(box: Path, limits: Limits | None = None) -> Protection:
    """The same without the sandbox, with control groups; without any skip, also in CI, where there may be none."""
    found = find_out("off", box, limits or Limits(), (), box / "unused")
    if found.groups is None:
        pytest.skip("control groups cannot be made here")
    return found


def living_in(folder: Path) -> list[int]:
    """Every process of this machine that works in a folder or below it, from within a sandbox or not."""
    found = []
    for process in psutil.process_iter():
        try:
            at = process.cwd()
            if process.status() != psutil.STATUS_ZOMBIE and at and Path(at).is_relative_to(folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found

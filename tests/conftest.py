"""What holds for all tests."""

import gc
import os
from collections.abc import Iterator

import pytest
from slurmcluster import slurm, slurm_cluster  # noqa: F401  fixtures, one cluster for all modules

MOST_LEFT = 16  # what a module may open for good: modules that are imported late, worker processes of the session


@pytest.fixture(autouse=True, scope="module")
def _closes_what_it_opens() -> Iterator[None]:
    """A module of tests leaves no descriptors behind: all of them together have those of one process, often 1,024."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    left = {name: _what(name) for name in set(os.listdir("/proc/self/fd")) - before}
    assert len(left) <= MOST_LEFT, f"still open: {left}"


def _what(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:  # the one by which the folder was read
        return ""

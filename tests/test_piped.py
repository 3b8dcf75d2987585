"""A program that cannot be started for want of file descriptors costs none: each number of free ones is tried."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from magickbox import piped
from magickbox.hooks.command import Command


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@contextmanager
def only(free: int) -> Iterator[None]:
    """So many more descriptors can be opened, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, open_files())) + 64, hard))
        with suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(free):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)


@pytest.mark.parametrize("free", range(1, 8))
def test_a_failed_start_leaves_nothing_open(free: int) -> None:
    before = open_files()
    with only(free):
        inside = open_files()
        try:
            process = piped.start(["/bin/cat"], {}, answers=True)
        except OSError:
            assert free < 7
            assert open_files() == inside
            process = None
    if process is not None:
        assert free >= 5
        out, _ = process.communicate(b"x", 10)
        assert (out, process.returncode) == (b"x", 0)
    assert open_files() == before


def test_a_program_that_is_not_there_leaves_nothing_open() -> None:
    before = open_files()
    with pytest.raises(FileNotFoundError):
        piped.start(["/no/such/program"], {}, answers=True)
    assert open_files() == before


@pytest.mark.parametrize("free", range(7))
def test_a_hook_without_descriptors_says_so(free: int, tmp_path: Path) -> None:
    before = open_files()
    hook = Command(["/bin/sh", "-c", f"cat > {tmp_path}/told"], {"PATH": "/usr/bin:/bin"})
    with only(free):
        said = hook.tell(b"facts")
    assert said in (None, "it cannot be started: Too many open files")
    assert (tmp_path / "told").exists() == (said is None)
    assert open_files() == before

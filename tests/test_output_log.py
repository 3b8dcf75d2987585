"""The live log of a run: bounded, binary safe, and its last line fit for a message."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magickbox.engines.continued_log import GAP, ContinuedLog
from magickbox.engines.output_log import LONGEST_LINE, TAIL, OutputLog


def last_line_of(*chunks: bytes) -> str:
    log = OutputLog(Path("/dev/null"), 10_000)
    for chunk in chunks:
        log.write(chunk)
    log.close()
    return log.last_line


@pytest.mark.parametrize(
    ("printed", "last"),
    [
        ([], ""),
        ([b"\n\n"], ""),
        ([b"one\ntwo"], "two"),
        ([b"one\ntw", b"o\n", b"\n \n"], "two"),
        ([b"10 %\r20 %\r"], "20 %"),
        ([b"two\r\n"], "two"),
        ([b"\x1b[1;31merror:\x1b[0m no\tlicense\n"], "error: no license"),
        ([b"\x00\x01\x02bell\x07\n"], "bell"),
        (["Größe 頭".encode()], "Größe 頭"),
        ([b"end\n", b"\n" * 100_000], "end"),
        ([b"x" * 1000], "x" * LONGEST_LINE),
    ],
)
def test_last_line(printed: list[bytes], last: str) -> None:
    assert last_line_of(*printed) == last


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_the_last_line_can_always_be_shown(chunks: list[bytes]) -> None:
    line = last_line_of(*chunks)
    assert len(line) <= LONGEST_LINE
    assert line.isprintable()


def test_beginning_and_end_are_kept(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "log", TAIL + 100)
    for number in range(5000):
        log.write(f"line {number}\n".encode())
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 4998\nline 4999\n")
    assert "\n[magickbox: the log is full; of 48790 bytes more only the last 8192 follow]\n" in text
    assert len(text) < TAIL + 200


def test_what_the_box_says_is_not_the_last_line(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "log", 10_000)
    log.write(b"working\n")
    log.say("out of time")
    log.close()
    assert (log.last_line, (tmp_path / "log").read_text()) == ("working", "working\n[magickbox: out of time]\n")


@pytest.mark.parametrize(
    ("before", "told", "after"),
    [
        (b"", b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\ntw", b"one\ntwo\nthree\n", b"one\ntwo\nthree\n"),
        (b"one\ntwo\n", b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\ntwo\n", b"one\n", b"one\ntwo\n"),
        (b"one\n", b"later\n", b"one\n[magickbox: " + GAP.encode() + b"]\nlater\n"),
        (b"one\ntwo", b"one\nthree\n", b"one\ntwo\n[magickbox: " + GAP.encode() + b"]\nhree\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_log_that_is_told_again_goes_on(tmp_path: Path, before: bytes, told: bytes, after: bytes, size: int) -> None:
    path = tmp_path / "processing.log"
    path.write_bytes(before)
    log = ContinuedLog(path, 100_000)
    for start in range(0, len(told), size):
        log.write(told[start : start + size])
    log.close()
    assert path.read_bytes() == after
    assert log.last_line == told.decode().split()[-1]


def test_a_log_that_is_told_again_has_one_limit(tmp_path: Path) -> None:
    path, lines = tmp_path / "processing.log", b"".join(b"line %05d\n" % n for n in range(5000))
    path.write_bytes(lines[:20_000])
    log = ContinuedLog(path, 30_000)
    log.write(lines)
    log.close()
    kept = path.read_bytes()
    assert kept.startswith(lines[: 30_000 - TAIL])
    assert kept.endswith(lines[-TAIL:])
    assert len(kept) < 30_200
    assert b"the log is full" in kept

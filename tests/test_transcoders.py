"""What every transcoder keeps to: the worker processes, and the fake that stands in for them."""

from collections.abc import Iterator
from pathlib import Path

import peers
import pytest

from magickbox import transfersyntax as ts
from magickbox.transcoder import CannotTranscode, FakeTranscoder, Transcoded, Transcoder
from magickbox.transcoding.pool import WorkerPool


@pytest.fixture(params=["fake", "workers"])
def transcoder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transcoder]:
    folder = tmp_path / "converted"
    folder.mkdir()
    if request.param == "fake":
        yield FakeTranscoder(folder)
        return
    pool = WorkerPool(folder)
    yield pool
    pool.close()


@pytest.fixture
def implicit(tmp_path: Path) -> Path:
    path = tmp_path / "implicit.dcm"
    path.write_bytes(peers.sample("MR_small_implicit.dcm").read_bytes())
    return path


def test_what_is_converted_is_a_new_file_and_the_old_one_stays(transcoder: Transcoder, implicit: Path) -> None:
    before = implicit.read_bytes()
    assert ts.EXPLICIT_LITTLE in transcoder.targets(ts.IMPLICIT_LITTLE)
    first = transcoder.transcode(implicit, ts.IMPLICIT_LITTLE, [ts.EXPLICIT_LITTLE])
    second = transcoder.transcode(implicit, ts.IMPLICIT_LITTLE, [ts.EXPLICIT_LITTLE])
    assert isinstance(first, Transcoded)
    assert isinstance(second, Transcoded)
    assert first.transfer_syntax == second.transfer_syntax == ts.EXPLICIT_LITTLE
    assert len({first.path, second.path, implicit}) == 3
    assert {first.path.parent, second.path.parent} == {implicit.parent / "converted"}
    assert implicit.read_bytes() == before


def test_the_first_possible_target_is_taken(transcoder: Transcoder, implicit: Path) -> None:
    result = transcoder.transcode(implicit, ts.IMPLICIT_LITTLE, [ts.EXPLICIT_BIG, ts.EXPLICIT_LITTLE])
    assert isinstance(result, Transcoded)
    assert result.transfer_syntax == ts.EXPLICIT_LITTLE


def test_what_cannot_be_done_is_a_reason_and_leaves_nothing(transcoder: Transcoder, implicit: Path) -> None:
    for source, targets in ((implicit, [ts.EXPLICIT_BIG]), (implicit, []), (implicit.parent / "gone.dcm", ["1.2"])):
        result = transcoder.transcode(source, ts.IMPLICIT_LITTLE, targets)
        assert isinstance(result, CannotTranscode)
        assert result.reason
        assert not result.passing
    assert list((implicit.parent / "converted").iterdir()) == []


def test_a_transfer_syntax_that_nobody_knows_has_no_targets(transcoder: Transcoder) -> None:
    assert list(transcoder.targets("1.2.3.4.5")) == []

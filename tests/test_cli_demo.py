"""``magickbox demo`` never deletes what it has not made itself."""

from pathlib import Path

import pytest

from magickbox.cli.demo import MARK, clear
from magickbox.cli.main import main
from magickbox.datafolder import BoxLock, DataFolder
from magickbox.errors import AlreadyRunning, DataFolderError


def real(root: Path) -> Path:
    """A data folder of a real box, with something in it."""
    DataFolder(root).prepare()
    (root / "jobs" / "image").write_text("precious")
    return root / "jobs" / "image"


def test_a_real_data_folder_is_refused_and_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = real(tmp_path / "data")
    assert main(["demo", "--data", str(tmp_path / "data")]) == 1
    assert image.read_text() == "precious"
    assert "is not touched" in capsys.readouterr().err


def test_a_mark_that_is_a_link_is_none(tmp_path: Path) -> None:
    image = real(tmp_path)
    (tmp_path / MARK).symlink_to(image)
    with pytest.raises(DataFolderError):
        clear(tmp_path)
    assert image.exists()


def test_a_running_demonstration_is_not_emptied(tmp_path: Path) -> None:
    clear(tmp_path / "demo")
    image = real(tmp_path / "demo")
    with BoxLock(DataFolder(tmp_path / "demo")), pytest.raises(AlreadyRunning):
        clear(tmp_path / "demo")
    assert image.exists()


def test_its_own_folder_is_emptied_and_links_are_not_followed(tmp_path: Path) -> None:
    precious = real(tmp_path / "data")
    clear(tmp_path / "demo")
    real(tmp_path / "demo")
    (tmp_path / "demo" / "link").symlink_to(tmp_path / "data")
    clear(tmp_path / "demo")
    assert [p.name for p in (tmp_path / "demo").iterdir()] == [MARK]
    assert precious.exists()


def test_a_study_is_looked_for_before_anything_is_emptied(tmp_path: Path) -> None:
    clear(tmp_path / "demo")
    image = real(tmp_path / "demo")
    (tmp_path / "none").mkdir()
    for study in (tmp_path / "none", tmp_path / "demo" / "jobs"):
        assert main(["demo", "--data", str(tmp_path / "demo"), "--study", str(study)]) == 1
        assert image.exists()

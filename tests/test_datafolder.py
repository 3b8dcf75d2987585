"""The data folder can be used, or says why not; and one box alone uses it."""

import os
from pathlib import Path

import pytest

from magickbox.datafolder import BoxLock, DataFolder
from magickbox.errors import AlreadyRunning, DataFolderError


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    data = DataFolder(tmp_path / "a folder with blanks ü")
    data.prepare()
    return data


def test_a_second_lock_is_refused_and_names_the_process(data: DataFolder) -> None:
    with BoxLock(data), pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
        BoxLock(data).acquire()
    with BoxLock(data):
        pass


def test_removing_the_lock_file_does_not_lift_the_lock(data: DataFolder) -> None:
    with BoxLock(data):
        (data.state / "lock").unlink()
        with pytest.raises(AlreadyRunning):
            BoxLock(data).acquire()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataFolderError, match="cannot be used as data folder"):
        DataFolder(tmp_path / "data").prepare()

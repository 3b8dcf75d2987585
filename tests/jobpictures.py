"""A job folder with instances in it, to look at."""

import shutil
from pathlib import Path

from magickbox.datafolder import DataFolder
from magickbox.imaging.pictures import Pictures, Rendered, Unseen, Wish
from magickbox.imaging.series import Shown

JOB = "20260312T171200Z-Proc-7f3a"


def prepared(root: Path) -> DataFolder:
    """A data folder with one job's folder."""
    data = DataFolder(root)
    data.prepare()
    (data.jobs / JOB / "INPUT").mkdir(parents=True)
    return data


def put(data: DataFolder, *files: Path, place: str = "INPUT") -> None:
    """Lay copies of files into the job."""
    folder = data.jobs / JOB / place
    folder.mkdir(exist_ok=True)
    for number, file in enumerate(files):
        shutil.copy(file, folder / f"{number:03}-{file.name.removesuffix('.dcm')}.dcm")


def every(pictures: Pictures, place: str = "INPUT") -> list[Shown]:
    """Every instance of the job."""
    return [each for series in pictures.place(JOB, place).series for each in series.instances]


def get(pictures: Pictures, shown: Shown, wish: Wish) -> Rendered | Unseen:
    """What comes of a wish."""
    return pictures.get(JOB, shown, wish)


def content(pictures: Pictures, shown: Shown, wish: Wish) -> bytes:
    """What is rendered; fails if nothing is."""
    found = get(pictures, shown, wish)
    assert isinstance(found, Rendered), found
    return found.content

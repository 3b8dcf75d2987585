"""Drop-ins that somebody gives: only whole and good ones are placed, and a hostile zip leaves nothing behind."""

import io
import os
import stat
import threading
import time
import zipfile
from pathlib import Path

import pytest

from magickbox.dropins.folder import read_dropins
from magickbox.dropins.install import ASIDE, REPLACED, install_script, install_zip
from magickbox.dropins.unpack import Bounds
from magickbox.errors import ConfigError, NotFound

SCRIPT = b"#!/bin/sh\ncp $1/* $2\n"
DECLARED = b'{"command": ["./run.sh"], "version": "%s"}'


def packed(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    made.seek(0)
    return made


def a_folder(top: str = "Seg/", version: bytes = b"1") -> io.BytesIO:
    return packed((f"{top}processor.json", DECLARED % version), (f"{top}run.sh", SCRIPT), (f"{top}net/model.bin", b"m"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "processors"
    made.mkdir()
    return made


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_script_becomes_a_processor(folder: Path) -> None:
    placed = install_script(folder, "ProcCopy.sh", SCRIPT).processor
    assert (placed.name, placed.called_ae, placed.enabled) == ("ProcCopy", "ProcCopy", True)
    assert names(folder) == ["ProcCopy.sh"]
    assert os.access(folder / "ProcCopy.sh", os.X_OK)


def test_a_zip_becomes_a_processor_under_the_name_of_its_folder(folder: Path) -> None:
    placed = install_zip(folder, "", a_folder()).processor
    assert (placed.name, placed.version, placed.folder) == ("Seg", "1", folder / "Seg")
    assert (folder / "Seg" / "net" / "model.bin").read_bytes() == b"m"
    assert not os.access(folder / "Seg" / "net" / "model.bin", os.X_OK)
    assert names(folder) == ["Seg"]


def test_a_zip_without_a_folder_takes_the_name_that_is_given(folder: Path) -> None:
    assert install_zip(folder, "Other", a_folder("")).processor.name == "Other"
    assert install_zip(folder, "Third", a_folder("whatever/")).processor.name == "Third"


def test_what_is_switched_off_at_first_is_never_seen_switched_on(folder: Path) -> None:
    assert not install_script(folder, "A.sh", SCRIPT, on=False).processor.enabled
    assert not install_zip(folder, "B", a_folder(), on=False).processor.enabled
    assert not install_script(folder, "A.sh", SCRIPT + b"#", replace=True).processor.enabled  # its mark stays


def test_one_that_is_there_is_replaced_only_if_that_is_said_and_kept(folder: Path) -> None:
    install_zip(folder, "", a_folder())
    with pytest.raises(ConfigError, match="is there already"):
        install_zip(folder, "", a_folder(version=b"2"))
    placed = install_zip(folder, "", a_folder(version=b"2"), replace=True)
    assert placed.processor.version == "2"
    assert placed.kept == folder / REPLACED / "Seg"
    assert b'"1"' in (placed.kept / "processor.json").read_bytes()
    install_zip(folder, "", a_folder(version=b"3"), replace=True)
    assert b'"2"' in (placed.kept / "processor.json").read_bytes()
    assert [one.version for one in read_dropins(folder).good] == ["3"]


def test_while_it_is_replaced_nobody_sees_it_missing_or_half(folder: Path) -> None:
    install_zip(folder, "", a_folder())
    seen: list[object] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            found = read_dropins(folder)
            seen.append([one.name for one in found.good] == ["Seg"] and not found.bad)

    looking = threading.Thread(target=look)
    looking.start()
    for version in range(20):
        install_zip(folder, "", a_folder(version=str(version).encode()), replace=True)
    over.set()
    looking.join()
    assert seen
    assert all(seen)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ProcBad.sh", b"echo no shebang\n", "no drop-in|begin with #!"),
        ("ProcBad.sh", b"#!/bin/sh\r\necho\r\n", "carriage return"),
        ("ProcBad.sh", b"", "no drop-in|begin with #!"),
        ("ProcBad.txt", SCRIPT, "no ending of a script"),
        ("../ProcBad.sh", SCRIPT, "letters, digits"),
        (".hidden.sh", SCRIPT, "letters, digits"),
        ("a/b.sh", SCRIPT, "letters, digits"),
        ("ProcBad.sh\n", SCRIPT, "no ending of a script"),
        ("Pröc.sh", SCRIPT, "letters, digits"),
        ("NameThatIsLongerThanAnAETitle.sh", SCRIPT, "AE title"),
    ],
)
def test_a_bad_script_is_refused(folder: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        install_script(folder, name, content)
    assert names(folder) == []


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


HOSTILE = {
    "no processor.json": (packed(("Seg/run.sh", SCRIPT)), "no processor.json"),
    "a bad one": (packed(("Seg/processor.json", b'{"command": ["./none.sh"]}')), "does not exist"),
    "up": (packed(("Seg/../../evil", b"x")), "not a name"),
    "from the root": (packed(("/etc/evil", b"x")), "not a name"),
    "a drive": (packed(("C:evil", b"x")), "not a name"),
    "a dot": (packed(("Seg/./processor.json", b"{}")), "not a name"),
    "an empty part": (packed(("Seg//processor.json", b"{}")), "not a name"),
    "a line end": (packed(("Seg/a\nb", b"x")), "not a name"),
    "a link": (packed(("Seg/processor.json", b"{}"), (link("Seg/run.sh"), b"/etc/passwd")), "a link or a device"),
    "deep": (packed(("a/" * 30 + "b", b"x")), "nested too deeply"),
    "the same name in another case": (packed(("Seg/a", b"x"), ("Seg/A", b"y")), "in it twice"),
    "a file and a folder of one name": (packed(("Seg/a", b"x"), ("Seg/a/b", b"y")), "a file and a folder of one name"),
    "many files": (packed(*((f"Seg/{n}", b"") for n in range(60))), "60 files, at most 50"),
    "a bomb": (packed(("Seg/processor.json", bytes(2 << 20))), "unpack to more than 1 MB"),
    "no zip": (io.BytesIO(b"PK\x03\x04 and then nothing of a zip"), "no zip that can be read"),
    "nothing": (io.BytesIO(b""), "no zip that can be read"),
    "empty": (packed(), "name of a folder"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_zip_leaves_nothing(folder: Path, what: str) -> None:
    given, said = HOSTILE[what]
    given.seek(0)
    with pytest.raises((ConfigError, OSError), match=said):
        install_zip(folder, "", given, bounds=Bounds(files=50, whole=1 << 20))
    assert names(folder) == []
    assert not (folder.parent / "evil").exists()


def test_a_zip_that_lies_about_its_size_is_stopped(folder: Path) -> None:
    content = packed(("Seg/processor.json", bytes(3 << 20))).getvalue()
    true, lie = (3 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert content.count(true) == 2
    with pytest.raises(ConfigError, match=r"no zip that can be read|unpacks to more"):
        install_zip(folder, "", io.BytesIO(content.replace(true, lie)), bounds=Bounds(whole=1 << 20))
    assert names(folder) == []


@pytest.mark.parametrize("flag", [1, 0x41])
def test_an_encrypted_zip_is_refused(folder: Path, flag: int) -> None:
    content = bytearray(packed(("Seg/processor.json", b"{}")).getvalue())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= flag
    with pytest.raises(ConfigError, match="encrypted"):
        install_zip(folder, "", io.BytesIO(bytes(content)))


def test_a_name_that_another_one_has_is_refused(folder: Path) -> None:
    install_script(folder, "Seg.sh", SCRIPT)
    with pytest.raises(ConfigError, match=r"belongs to Seg\.sh"):
        install_zip(folder, "", a_folder(), replace=True)
    with pytest.raises(ConfigError, match=r"belongs to Seg\.sh"):
        install_script(folder, "Seg.py", SCRIPT, replace=True)
    assert names(folder) == ["Seg.sh"]


def test_a_link_is_not_written_through(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(SCRIPT)
    (tmp_path / "elsewhere").chmod(0o755)
    (folder / "Seg.sh").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="something else"):
        install_script(folder, "Seg.sh", SCRIPT + b"# other", replace=True)
    assert (tmp_path / "elsewhere").read_bytes() == SCRIPT


def test_what_a_kill_left_is_swept_away(folder: Path) -> None:
    left = folder / f"{ASIDE}old"
    left.mkdir()
    os.utime(left, (time.time() - 9000,) * 2)
    (folder / f"{ASIDE}new").mkdir()
    install_script(folder, "A.sh", SCRIPT)
    assert names(folder) == [f"{ASIDE}new", "A.sh"]


def test_there_must_be_a_folder_for_processors(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        install_script(tmp_path / "none", "A.sh", SCRIPT)

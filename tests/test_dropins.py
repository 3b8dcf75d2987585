"""Which things in the processors folder are drop-ins, under which names, and what is said about the others.

Naming and discovery run on a fake filesystem; links, kinds of files and digests have real ones where it counts.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfakefs.fake_filesystem import FakeFilesystem
from pyfakefs.helpers import reset_ids, set_uid

from magickbox.dropins.declaration import pattern_of, validator
from magickbox.dropins.files import WHOLE, digest, signature
from magickbox.dropins.folder import BadDropin, Dropins, read_dropins
from magickbox.engines.limits import Limits, limits_of
from magickbox.job import JobPriority
from magickbox.processor import Group, Late, Processor, choose
from magickbox.retry import Retry
from magickbox.schedule import read_hours

validator()  # read from the real disk before a fake one is put over it

PLACE = Path("/box/processors")
OK: dict[str, Any] = {"command": ["./run.sh"]}


@pytest.fixture
def place(fs: FakeFilesystem) -> Iterator[Path]:
    set_uid(1000)  # root may do everything, the fake one too
    fs.create_dir(PLACE)
    yield PLACE
    reset_ids()


def lone(path: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def folder(path: Path, declared: object = OK) -> Path:
    lone(path / "run.sh")
    (path / "processor.json").write_text(declared if isinstance(declared, str) else json.dumps(declared, indent=2))
    return path


def only(dropins: Dropins) -> Processor:
    assert dropins.bad == ()
    (one,) = dropins.good
    return one


def problems(dropins: Dropins) -> tuple[str, ...]:
    assert dropins.good == ()
    (one,) = dropins.bad
    return one.problems


# --- lone files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ProcRSI", "ProcRSI.py", "ProcRSI.sh", "ProcRSI.R", "ProcRSI.anything"])
def test_a_lone_executable_serves_its_stem(place: Path, name: str) -> None:
    lone(place / name)
    one = only(read_dropins(place))
    assert (one.name, one.called_ae, one.command, one.folder) == ("ProcRSI", "ProcRSI", (f"{place}/{name}",), place)
    assert one.enabled
    assert one.serves(" procrsi ")
    assert not one.serves("ProcRSI2")


def test_a_program_need_not_be_a_script(place: Path) -> None:
    (place / "Prog").write_bytes(b"\x7fELF\x02\x01\x01")
    (place / "Prog").chmod(0o755)
    assert only(read_dropins(place)).name == "Prog"


@pytest.mark.parametrize("mode", [0o644, 0o755])
@pytest.mark.parametrize(
    "name",
    [
        "README",
        "README.md",
        "LICENSE",
        "notes.txt",
        ".hidden",
        ".ProcRSI.py.swp",
        "ProcRSI.py~",
        "ProcRSI.bak",
        "ProcRSI.py.part",
        "#ProcRSI.py#",
        "data.json",
        "model.nii.gz",
        "test_procrsi.py",
        "procrsi_test.py",
        "conftest.py",
        "__init__.py",
        "ProcRSI.disabled",
    ],
)
def test_what_lies_beside_is_ignored_executable_or_not(place: Path, name: str, mode: int) -> None:
    lone(place / name, mode=mode)
    assert read_dropins(place) == Dropins()


def test_other_files_are_ignored_unless_executable(place: Path) -> None:
    lone(place / "weights", "0.1 0.2", mode=0o644)
    assert read_dropins(place) == Dropins()
    (place / "weights").chmod(0o755)
    assert problems(read_dropins(place)) == ("neither a program nor a script: its first line must begin with #!",)


@pytest.mark.parametrize("name", ["ProcRSI.py", "ProcRSI.sh", "ProcRSI"])
def test_a_script_without_its_x_bit_is_shown(place: Path, name: str) -> None:
    lone(place / name, mode=0o644)
    assert problems(read_dropins(place)) == (f"not executable: chmod +x {name}",)


def test_an_empty_file_is_one_being_copied(place: Path) -> None:
    lone(place / "ProcRSI.py", "")
    assert len(problems(read_dropins(place))) == 1
    lone(place / "ProcRSI.py")
    assert only(read_dropins(place)).name == "ProcRSI"


@pytest.mark.parametrize("name", ["A" * 17, "Läufer", "back\\slash", "bell\a"])
def test_a_name_that_is_no_ae_title_is_bad(place: Path, name: str) -> None:
    lone(place / f"{name}.py")
    (said,) = problems(read_dropins(place))
    assert "its name is the AE title it serves, and an AE title has" in said


def test_sixteen_characters_are_a_title(place: Path) -> None:
    lone(place / ("A" * 16 + ".py"))
    assert only(read_dropins(place)).name == "A" * 16


def test_a_name_is_taken_literally(place: Path) -> None:
    lone(place / "Proc.v2.py")
    one = only(read_dropins(place))
    assert one.serves("PROC.V2")
    assert not one.serves("ProcXv2")


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="\\"), min_size=1, max_size=16)
)
def test_every_name_serves_itself(name: str) -> None:
    one = Processor("x", Path(), (), pattern_of(name.strip()))
    assert one.serves(name)
    assert one.serves(name.upper())


def test_a_mark_beside_it_switches_a_lone_file_off(place: Path) -> None:
    lone(place / "ProcRSI.py")
    (place / "ProcRSI.disabled").touch()
    dropins = read_dropins(place)
    assert not only(dropins).enabled
    assert choose(dropins.good, "ProcRSI") is None


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_says_everything_itself(place: Path) -> None:
    said = {
        "$schema": "../processor.schema.json",
        "name": "RSI for all",
        "description": "restriction spectrum imaging",
        "version": "1.2",
        "AETitle": "Proc(RSI|ADC).*",
        "enabled": False,
        "command": ["python3", "./run.sh", "--fast", "./run.sh"],
        "timeout": 600,
        "environment": {"MODEL": "a", "Z": ""},
        "resources": {"cpus": 1.5, "memory": "16G", "gpus": 1},
        "group": "association",
        "settle": 0,
        "max_wait": 60.5,
        "late": "rerun",
        "priority": "off-peak",
        "hours": "19:00-06:00, 12:00-13:00",
        "concurrency": 2,
        "retry": {"times": 2, "on": ["timeout", "exit:75"]},
    }
    folder(place / "rsi", said)
    assert only(read_dropins(place)) == Processor(
        name="RSI for all",
        folder=place / "rsi",
        command=("python3", f"{place}/rsi/run.sh", "--fast", f"{place}/rsi/run.sh"),
        called_ae="Proc(RSI|ADC).*",
        description="restriction spectrum imaging",
        version="1.2",
        enabled=False,
        timeout=600.0,
        environment=(("MODEL", "a"), ("Z", "")),
        resources=(("cpus", 1.5), ("memory", "16G"), ("gpus", 1)),
        group=Group.ASSOCIATION,
        settle=0.0,
        max_wait=60.5,
        late=Late.RERUN,
        priority=JobPriority.OFF_PEAK,
        hours=read_hours("19:00-06:00, 12:00-13:00"),
        concurrency=2,
        retry=Retry(2, ("timeout", "exit:75"), 60.0),
        digest=digest(place / "rsi"),
        declared=frozenset(said),
    )


def test_a_container_is_declared(place: Path) -> None:
    said = {
        "image": "hospital/adc:1.2",
        "image_archive": "./adc.tar",
        "command": ["/opt/adc", "./models/a"],
        "network": True,
        "convention": "mercure",
        "settings": {"sigma": 7},
        "resources": {"memory": "16G", "output": "20G", "processes": 100},
    }
    (place / "Adc" / "models").mkdir(parents=True)
    (place / "Adc" / "models" / "a").write_text("")
    (place / "Adc" / "adc.tar").write_text("")
    (place / "Adc" / "processor.json").write_text(json.dumps(said))
    one = only(read_dropins(place))
    assert (one.image, str(one.image_archive)) == ("hospital/adc:1.2", f"{place}/Adc/adc.tar")
    assert one.command == ("/opt/adc", "/processor/models/a")
    assert (one.network, one.convention, one.settings) == (True, "mercure", '{"sigma": 7}')
    (place / "Adc" / "processor.json").write_text('{"image": "adc"}')
    assert (only(read_dropins(place)).command, only(read_dropins(place)).network) == ((), False)


def test_a_folder_needs_a_command_only(place: Path) -> None:
    folder(place / "ProcRSI")
    one = only(read_dropins(place))
    assert (one.name, one.called_ae, one.enabled, one.timeout) == ("ProcRSI", "ProcRSI", True, None)


def test_a_byte_order_mark_is_no_harm(place: Path) -> None:
    folder(place / "ProcRSI", "\ufeff" + json.dumps(OK))
    assert only(read_dropins(place)).name == "ProcRSI"


def test_a_folder_half_copied_becomes_good_by_itself(place: Path) -> None:
    (place / "ProcRSI").mkdir()
    assert read_dropins(place) == Dropins()
    (place / "ProcRSI/model.bin").write_text("...")
    assert read_dropins(place) == Dropins()
    lone(place / "ProcRSI/run.sh")
    assert problems(read_dropins(place)) == ("no processor.json: a folder needs one that names its command",)
    (place / "ProcRSI/processor.json").write_text('{"command": ["./ru')
    assert "a text that ends on its line" in problems(read_dropins(place))[0]
    (place / "ProcRSI/processor.json").write_text(json.dumps(OK))
    assert only(read_dropins(place)).name == "ProcRSI"


@pytest.mark.parametrize("name", [".git", "__pycache__", "ProcRSI.bak", "ProcRSI~"])
def test_folders_beside_are_ignored(place: Path, name: str) -> None:
    folder(place / name)
    assert read_dropins(place) == Dropins()


BAD: dict[str, tuple[object, str]] = {
    "empty": ("", ": the file is empty, expected { ... }"),
    "not json": ('{\n "command": [,]}', ', line 2, column 14: expected a value: "text", a number, true, fals'),
    "not an object": ("[]", ", line 1, column 1: expected an object, found []"),
    "twice": ('{"timeout": 1, "timeout": 2}', ", line 1, column 16, timeout: this key is there twice"),
    "not a number": ('{"timeout": NaN}', ', line 1, column 13: expected a value: "text", a number, true, fal'),
    "deep": ("[" * 100_000, ", line 1, column 66: nested more than 64 deep"),
    "large": (" " * 1_100_000, ": larger than 1048576 bytes"),
    "half a character": ('{"name": "\\ud800"}', ", line 1, column 10: half of a surrogate pair is no text"),
    "near": ({**OK, "timout": 5}, ", line 5, column 3, timout: unknown key, did you mean 'timeout'?"),
    "far": ({**OK, "zzz": 5}, ", line 5, column 3, zzz: unknown key, known are $schema, name, description, v"),
    "kind": ({**OK, "timeout": "5"}, ', line 5, column 14, timeout: expected a number, found "5"'),
    "zero": ({**OK, "timeout": 0}, ", line 5, column 14, timeout: expected more than 0, found 0"),
    "forever": ({**OK, "timeout": 1e99}, ", line 5, column 14, timeout: expected at most 31536000, found 1e+"),
    "truth": ({**OK, "enabled": "T"}, ', line 5, column 14, enabled: expected true or false, found "T"'),
    "choice": ({**OK, "group": "patient"}, ', line 5, column 12, group: expected "study" or "association", f'),
    "variable": ({**OK, "environment": {"A": 1}}, ", line 6, column 10, environment.A: expected text, found 1"),
    "reserved": (
        {**OK, "environment": {"MAGICKBOX_RUN": "x"}},
        ", line 6, column 5, environment.MAGICKBOX_RUN: expected a va",
    ),
    "variable with an end of line": (
        {**OK, "environment": {"A\n": "x"}},
        ', line 6, column 5, environment["A\\n"]: expected a variable\'',
    ),
    "name with an end of line": ({**OK, "name": "A\n"}, ", line 5, column 11, name: expected the name in listings and"),
    "memory": ({**OK, "resources": {"memory": "much"}}, ", line 6, column 15, resources.memory: expected memory as te"),
    "digits": ({**OK, "resources": {"memory": "9" * 5000}}, ", line 6, column 15, resources.memory: expected memory a"),
    "exabytes": ({**OK, "resources": {"file_size": "9999999T"}}, ", line 6, column 18, resources.file_size: expected"),
    "processes": (
        {**OK, "resources": {"processes": 1e300}},
        ", line 6, column 18, resources.processes: expected at most 4194304, found 1e+300",
    ),
    "cards": ({**OK, "resources": {"gpus": 1e9}}, ", line 6, column 13, resources.gpus: expected at most 1000, found"),
    "hours": ({**OK, "hours": "nightly"}, ", line 5, column 12, hours: 'nightly' is not a time of day such as"),
    "priority": (
        {**OK, "priority": "high"},
        ', line 5, column 15, priority: expected "urgent" or "normal" or "off-peak", found "high"',
    ),
    "retry": ({**OK, "retry": {"on": ["oom"]}}, ", line 5, column 12, retry: 'times' is missing"),
    "retry on": (
        {**OK, "retry": {"times": 1, "on": ["exit:0"]}},
        ', line 8, column 7, retry.on[0]: expected timeout, oom, or an exit code such as exit:75, found "exit:0"',
    ),
    "resource": ({**OK, "resources": {"gpu": 1}}, ", line 6, column 5, resources.gpu: unknown key, did you mean"),
    "no command": ({}, ', line 1, column 1, command: missing; for example "command": ["./run.sh"]'),
    "empty command": ({"command": []}, ", line 2, column 14, command: expected at least 1 element, found []"),
    "text": ({"command": "./run.sh"}, ', line 2, column 14, command: expected a list, found "./run.sh"'),
    "element": ({"command": ["./run.sh", 5]}, ", line 4, column 5, command[1]: expected text, found 5"),
    "nul": ({"command": ["a\0"]}, ", line 3, column 5, command[0]: expected text without NUL characters, fou"),
    "missing": ({"command": ["./no"]}, ", line 3, column 5, command[0]: './no' does not exist in the process"),
    "leaves": ({"command": ["./../x"]}, ", line 3, column 5, command[0]: './../x' leaves the processor's fol"),
    "leaves late": (
        {"command": ["python3", "./a/../../x"]},
        ", line 4, column 5, command[1]: './a/../../x' leaves the pro",
    ),
    "not executable": (
        {"command": ["./processor.json"]},
        ", line 3, column 5, command[0]: './processor.json' is not an",
    ),
    "a folder": ({"command": ["./."]}, ", line 3, column 5, command[0]: './.' is not an executable file (chm"),
    "relative": ({"command": ["bin/run"]}, ", line 3, column 5, command[0]: 'bin/run' is looked for in the j"),
    "forgot ./": ({"command": ["python3", "run.sh"]}, ", line 4, column 5, command[1]: 'run.sh' is looked for in th"),
    "image that is an option": ({"image": "-v"}, ", line 2, column 12, image: expected the name of a container im"),
    "archive alone": ({**OK, "image_archive": "./a"}, ", line 5, column 3, image_archive: give the name of the im"),
    "archive gone": ({"image": "x", "image_archive": "./a"}, ", line 3, column 20, image_archive: './a' does not exi"),
    "archive outside": ({"image": "x", "image_archive": "./../a"}, ", line 3, column 20, image_archive: './../a' lea"),
    "convention": ({**OK, "convention": "x"}, ', line 5, column 17, convention: expected "magickbox" or "mercure"'),
    "pattern": ({**OK, "AETitle": "("}, ", line 5, column 14, AETitle: not a regular expression: missing ), "),
    "long name": ({**OK, "name": "A" * 17}, ", line 5, column 11, name: the name 'AAAAAAAAAAAAAAAAA' is the "),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_processor_json_is_told_exactly(place: Path, case: str) -> None:
    declared, expected = BAD[case]
    folder(place / "ProcRSI", declared)
    lone(place / "Good.sh")
    dropins = read_dropins(place)
    assert [one.name for one in dropins.good] == ["Good"], "one bad drop-in stops no other"
    (bad,) = dropins.bad
    assert (bad.name, bad.path, len(bad.problems)) == ("ProcRSI", place / "ProcRSI", 1)
    assert bad.problems[0].startswith(f"processor.json{expected}")


def test_every_problem_is_told_at_once(place: Path) -> None:
    folder(place / "ProcRSI", {"commnd": [], "timeout": -1, "late": "never"})
    assert len(problems(read_dropins(place))) == 3


def test_a_long_name_with_a_pattern_is_good(place: Path) -> None:
    folder(place / ("A" * 30), {**OK, "AETitle": "Proc.*"})
    assert only(read_dropins(place)).serves("PROC1")


# --- names, links, rights -----------------------------------------------------------------------------------------


def test_two_of_one_name_are_both_bad(place: Path) -> None:
    lone(place / "ProcRSI.py")
    lone(place / "procrsi.sh")
    folder(place / "other", {**OK, "name": "PROCRSI"})
    lone(place / "Good")
    dropins = read_dropins(place)
    assert [one.name for one in dropins.good] == ["Good"]
    assert [bad.problems for bad in dropins.bad] == [
        ("ProcRSI.py has the same name as other, procrsi.sh",),
        ("other has the same name as ProcRSI.py, procrsi.sh",),
        ("procrsi.sh has the same name as ProcRSI.py, other",),
    ]


def test_a_missing_folder_is_empty(place: Path) -> None:
    assert read_dropins(place / "nowhere") == Dropins(away=True)
    assert read_dropins(lone(place / "afile")) == Dropins(away=True)


def test_what_cannot_be_read_is_bad_and_no_crash(place: Path) -> None:
    lone(place / "Good.sh")
    lone(place / "Shut.sh").chmod(0o111)
    folder(place / "ShutJson").joinpath("processor.json").chmod(0)
    folder(place / "ShutFolder").chmod(0)
    dropins = read_dropins(place)
    assert [one.name for one in dropins.good] == ["Good"]
    assert {bad.name for bad in dropins.bad} == {"Shut", "ShutJson", "ShutFolder"}
    assert all("cannot be read: Permission denied" in bad.problems[0] for bad in dropins.bad)


def test_an_unreadable_processors_folder_is_shown(place: Path) -> None:
    place.chmod(0)
    assert problems(read_dropins(place)) == ("cannot be read: Permission denied",)


def test_links_are_fine_broken_ones_are_shown(tmp_path: Path) -> None:
    place = tmp_path / "processors"
    place.mkdir()
    (place / "ProcRSI").symlink_to(folder(tmp_path / "elsewhere" / "rsi"))
    (place / "ProcADC").symlink_to(lone(tmp_path / "elsewhere" / "adc.py"))
    (place / "Broken").symlink_to(tmp_path / "nowhere")
    (place / "Circle").symlink_to(place / "Circle")
    dropins = read_dropins(place)
    assert [one.name for one in dropins.good] == ["ProcADC", "ProcRSI"]
    assert dropins.good[1].command == (f"{place}/ProcRSI/run.sh",)
    assert [(bad.name, bad.problems) for bad in dropins.bad] == [
        ("Broken", ("a link that leads nowhere",)),
        ("Circle", ("a link that leads nowhere",)),
    ]


def test_odd_kinds_of_files_and_names_hang_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Pipe", 0o755)
    (tmp_path / "ProcRSI").mkdir()
    os.mkfifo(tmp_path / "ProcRSI" / "processor.json")
    odd = os.fsencode(tmp_path) + b"/Odd\xff.py"
    Path(os.fsdecode(odd)).write_text("#!/bin/sh\n")
    os.chmod(odd, 0o755)
    (bad,) = read_dropins(tmp_path).bad
    assert isinstance(bad, BadDropin)
    assert bad.name == "Odd\ufffd"


# --- digest and signature -----------------------------------------------------------------------------------------


def test_a_digest_tells_versions_apart(tmp_path: Path) -> None:
    path = folder(tmp_path / "ProcRSI")
    before = digest(path)
    assert digest(path) == before
    (path / "__pycache__").mkdir()
    (path / "__pycache__/run.pyc").write_text("x")
    assert digest(path) == before, "what Python leaves is no new version"
    os.utime(path / "run.sh", (1, 1))
    assert digest(path) == before, "a copy is no new version"
    lone(path / "lib/deep/code.py")
    deeper = digest(path)
    assert deeper != before
    (path / "lib/deep/code.py").rename(path / "lib/deep/other.py")
    assert digest(path) not in (before, deeper)


def test_a_large_file_counts_without_being_read(tmp_path: Path) -> None:
    model = lone(tmp_path / "ProcRSI")
    with model.open("ab") as file:
        file.truncate(100 * WHOLE)
    before = digest(model)
    os.utime(model, (1, 1))
    assert digest(model) != before


def test_a_signature_changes_with_what_matters(tmp_path: Path) -> None:
    seen = {signature(tmp_path), signature(tmp_path / "nowhere")}
    path = folder(tmp_path / "ProcRSI")
    seen.add(signature(tmp_path))
    lone(path / "lib/code.py")
    seen.add(signature(tmp_path))
    (path / "run.sh").chmod(0o644)
    seen.add(signature(tmp_path))
    (tmp_path / "Lone.disabled").touch()
    seen.add(signature(tmp_path))
    path.rename(tmp_path / "Other")
    seen.add(signature(tmp_path))
    assert len(seen) == 7
    (tmp_path / "Other" / "__pycache__").mkdir()
    assert signature(tmp_path) in seen


def test_many_files_are_bounded(tmp_path: Path) -> None:
    path = folder(tmp_path / "ProcRSI")
    for number in range(6000):
        (path / f"f{number:05}").touch()
    assert only(read_dropins(tmp_path)).digest


def test_a_script_with_windows_line_ends_is_bad(place: Path) -> None:
    lone(place / "Lone.sh", "#!/bin/sh\r\necho\r\n")
    folder(place / "Declared")
    lone(place / "Declared" / "run.sh", "#!/bin/sh\r\necho\r\n")
    lone(place / "Well.sh", "#!/bin/sh\necho\r\n")
    found = read_dropins(place)
    assert [p.name for p in found.good] == ["Well"]
    assert {bad.name for bad in found.bad} == {"Lone", "Declared"}
    assert all("its first line ends with a carriage return" in bad.problems[0] for bad in found.bad)


def test_a_step_with_a_size_beyond_all_digits_stops_no_listing(place: Path) -> None:
    folder(place / "Chain", {"steps": [{"command": ["./run.sh"], "resources": {"memory": "9" * 5000}}]})
    lone(place / "Good.sh")
    dropins = read_dropins(place)
    assert ([one.name for one in dropins.good], [one.name for one in dropins.bad]) == (["Good"], ["Chain"])


def test_what_is_counted_is_a_whole_number_however_it_is_written(place: Path) -> None:
    folder(place / "ProcRSI", {**OK, "resources": {"processes": 100.0, "gpus": 1.0, "cpus": 2.0}})
    (one,) = read_dropins(place).good
    assert repr(one.resources) == "(('processes', 100), ('gpus', 1), ('cpus', 2.0))"
    assert limits_of(one, Limits()).processes == 100

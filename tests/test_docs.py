"""README and docs/operations.md are true: commands parse, examples load, and the first round works as it is written."""

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from magickbox.association import Association, End
from magickbox.cli.main import main, parser
from magickbox.clock import now
from magickbox.config import SETTINGS, load
from magickbox.datafolder import DataFolder
from magickbox.delivery import DeliveryState
from magickbox.dropins.folder import read_dropins
from magickbox.job import TABLE, JobState, Move, after
from magickbox.jobfolder import Info
from magickbox.ledger import Ledger, jobs
from magickbox.rules.file import parse
from magickbox.service import Box, Places, build
from magickbox.station import Station
from magickbox.steps import Step

ROOT = Path(__file__).parent.parent
README, OPERATIONS = ROOT / "README.md", ROOT / "docs" / "operations.md"
WINDOW = ROOT / "docs" / "window.md"
CONTRACTS, ARCHITECTURE = ROOT / "docs" / "contracts.md", ROOT / "docs" / "architecture.md"
CHAPTERS = [README, *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)


def blocks(chapter: Path, label: str) -> list[str]:
    """The fenced blocks of a chapter whose opening line says ``label``."""
    return [text for said, text in FENCE.findall(chapter.read_text(encoding="utf-8")) if said == label]


def shell_lines() -> Iterator[tuple[str, list[str]]]:
    """Each command of magickbox in a shell example, as the arguments that it gets."""
    for chapter in (README, OPERATIONS, WINDOW):
        for line in "".join(blocks(chapter, "sh")).splitlines():
            words = re.split(r" (?:>>|&)", line)[0].split(maxsplit=1)
            words = words if words[0] != "nohup" else words[1].split(maxsplit=1)
            if words[0] in ("magickbox", ".venv/bin/magickbox"):
                yield line, shlex.split(words[1])


COMMANDS = dict(shell_lines())


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_can_be_given(line: str) -> None:
    number = ["1" if word == "ID" else word for word in COMMANDS[line]]
    assert callable(parser().parse_args(number).run)


def test_every_kind_of_command_is_shown_or_listed() -> None:
    known = {words[0] for words in COMMANDS.values()} | {"demo"}
    (actions,) = (action.choices for action in parser()._actions if action.dest == "command")
    assert known == set(actions or ())
    listed = CONTRACTS.read_text(encoding="utf-8").partition("## 7.")[2].partition("## 8.")[0]
    assert {name for name in actions or () if f"magickbox {name}" not in listed} == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", "".join(blocks(README, "sh")), re.MULTILINE)) <= targets


def test_the_settings_table_is_the_programs_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(key, default) for key, default, _ in rows] == [(key, each.default) for key, each in SETTINGS.items()]


@pytest.mark.parametrize("text", blocks(OPERATIONS, "toml"))
def test_every_settings_file_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "magickbox.toml"
    file.write_text(text, encoding="utf-8")
    loaded = load(file, {}, {})
    assert loaded.settings.settle == 30.0
    assert len([source for source in loaded.sources.values() if source != "default"]) == text.count("=")


def test_the_events_in_the_log_examples_are_those_of_the_code() -> None:
    shown = set(re.findall(r"^\S+\+00:00 [A-Z]+ ([\w-]+)", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE))
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "magickbox").rglob("*.py"))
    assert shown - {state.lower() for state in DeliveryState} <= set(re.findall(r'"([\w-]+)"', code))
    assert len(shown) > 10


def test_the_contracts_name_every_state_and_every_key_of_info_json() -> None:
    text = CONTRACTS.read_text(encoding="utf-8")
    assert [
        word for word in [*JobState, *DeliveryState] if not re.search(rf"^\|[^|]*\b{word}\b", text, re.MULTILINE)
    ] == []
    assert [how for how in End if f"`{how}`" not in text] == []
    (example,) = blocks(CONTRACTS, "json info.json")
    association = Association("a", "PACS", "ProcRSI", "10.0.2.2", now())
    assert list(json.loads(example)) == list(Info("j", now(), ((association, 0),), ()).as_json())


def test_the_state_machine_is_drawn_as_it_is() -> None:
    (picture,) = blocks(ARCHITECTURE, "mermaid")
    drawn = re.findall(r"([A-Z]+) --> ([A-Z]+): (\w+)", picture)
    assert [arrow for arrow in drawn if after(JobState(arrow[0]), Move(arrow[2])) != arrow[1]] == []
    told = {Move.HOLD, Move.DELETE, Move.REMOVED, Move.LOSE, Move.FIND}
    left = {(state, move) for state, move in TABLE if move not in told} - {(was, move) for was, _, move in drawn}
    assert left == {(JobState.PROCESSED, Move.REROUTE)}  # an arrow to itself


def test_every_fault_point_has_its_place() -> None:
    assert set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", ARCHITECTURE.read_text(encoding="utf-8"))) == {
        s.name for s in Step
    }


def test_the_readme_leads_to_every_chapter() -> None:
    text = README.read_text(encoding="utf-8")
    assert [path.name for path in sorted((ROOT / "docs").glob("*.md")) if f"](docs/{path.name})" not in text] == []


def test_the_changelog_has_one_list_of_what_is_unreleased() -> None:
    _, _, items = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n## Unreleased\n\n")
    lines = items.partition("\n## ")[0].rstrip("\n").split("\n")
    assert [line for line in lines if not line.startswith("- ")] == []
    assert len(lines) == len(set(lines))


def anchors(text: str) -> set[str]:
    """What the headings of a chapter can be linked by."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name)
def test_a_chapter_begins_with_what_is_in_it(chapter: Path) -> None:
    start, *parts = re.split(r"^## (.+)$", FENCE.sub("", chapter.read_text(encoding="utf-8")), flags=re.MULTILINE)
    listed = re.findall(r"^(- |\d\. )\[(.+)\]\(#.+\)$", start, re.MULTILINE)
    assert [mark.lstrip("- ") + name for mark, name in listed] == parts[::2]


PICTURES = sorted((ROOT / "docs" / "pictures").glob("*"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_shown_and_small(picture: Path) -> None:
    assert any(f"pictures/{picture.name})" in chapter.read_text(encoding="utf-8") for chapter in CHAPTERS)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size < 150_000


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(chapter: Path) -> None:
    for target in re.findall(r"\]\((?!http)(.*?)\)", chapter.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        path = (chapter.parent / name).resolve() if name else chapter
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


def test_the_demonstration_prints_what_the_readme_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--processors", str(ROOT / "processors")]) == 0
    printed = {_shape(line, f"{tmp_path}/demo-data") for line in capsys.readouterr().out.splitlines()}
    (shown,) = blocks(README, "text demo")
    assert {_shape(line, "/home/you/magickbox/demo-data") for line in shown.splitlines()} <= printed


def _shape(line: str, data: str) -> str:
    """A line without what is another one each time: the folder, ids, numbers."""
    line = re.sub(r"\d{8}T\d{6}Z-(\w+)-[0-9a-f]{4}", r"JOB-\1", line.replace(data, "DATA"))
    return re.sub(r"\d+", "0", line)


@pytest.fixture
def first_box(tmp_path: Path) -> Iterator[tuple[Box, Station, DataFolder]]:
    """A box with the README's first processor and first rule, and the station that the rule names."""
    data = DataFolder(tmp_path / "data")
    data.prepare()
    folder = tmp_path / "processors"
    folder.mkdir()
    (script,) = blocks(README, "sh ProcRSI.sh")
    (folder / "ProcRSI.sh").write_text(script, encoding="utf-8")
    (folder / "ProcRSI.sh").chmod(0o755)
    assert read_dropins(folder).bad == ()
    station = Station(tmp_path / "station", "PACS")
    (rules,) = blocks(README, "json routing.json")
    assert parse(rules, "README.md").warnings == ()
    (data.root / "routing.json").write_text(rules.replace("10400", str(station.start())), encoding="utf-8")
    settings = load(None, {}, {"host": "127.0.0.1", "port": 0, "settle": 0}).settings
    box = build(settings, Places(data, data.root / "routing.json", folder), {})
    box.start()
    yield box, station, data
    box.stop()
    station.stop()


def _as_written(command: str, box: Box) -> list[str]:
    """The README's command with the test's port and a file that is here."""
    (words,) = (words for line, words in COMMANDS.items() if line.startswith(f"magickbox {command} localhost"))
    given = {"11112": str(box.receiver.address[1]), "localhost": "127.0.0.1"}
    return [str(get_testdata_file("CT_small.dcm")) if "/" in word else given.get(word, word) for word in words]


def test_the_first_round(
    first_box: tuple[Box, Station, DataFolder], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    box, station, data = first_box
    assert main(_as_written("echo", box)) == 0
    assert main(_as_written("send", box)) == 0
    job = _done(data)
    assert [path.stem for path in station.received] == [path.stem for path in (data.jobs / job / "INPUT").iterdir()]
    for command in ("jobs list", "deliveries list", f"jobs show {job}", f"explain {job}"):
        assert main([*command.split(), "--data", str(data.root)]) == 0
    assert main(["processors", "list", "--data", str(data.root), "--processors", str(tmp_path / "processors")]) == 0
    assert "1 files came in" in (data.jobs / job / "processing.log").read_text()
    assert "rule 1 'Results of ProcRSI to the PACS': yes, matched" in capsys.readouterr().out


def _done(data: DataFolder) -> str:
    """The id of the one job, once it is DONE."""
    deadline = time.monotonic() + 20.0
    ledger = Ledger(data.ledger, readonly=True)
    try:
        while time.monotonic() < deadline:
            with ledger.reading() as tx:
                found = jobs.newest(tx, -1)
            if [job.state for job in found] == ["DONE"]:
                return found[0].id
            time.sleep(0.02)
    finally:
        ledger.close()
    raise AssertionError("the job did not end")

"""Processors written for other systems, as scripts: laid out and read back by their convention. See also containers."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from peers import sample
from sandboxes import sandbox

from magickbox.convention import Image
from magickbox.conventions import CONVENTIONS
from magickbox.dropins.files import digest
from magickbox.dropins.folder import Dropins
from magickbox.dropins.pins import CONVENTIONS as NAMES
from magickbox.dropins.pins import Pin, adorn, convention_of, read_pins, source_of, write_pins
from magickbox.engine import Ended, Engine, Run
from magickbox.engines.choosing import ChoosingEngine
from magickbox.engines.container_cli import Finder
from magickbox.engines.images import Images
from magickbox.engines.limits import Limits
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.jobfolder import AttemptFolder
from magickbox.logs import silent
from magickbox.processor import Processor, judge_run
from magickbox.runs.attempt import read_said

# As mercure documents a module: folders from the environment, settings from task.json, series by prefix.
MODULE = """#!/usr/bin/env python3
import json, os, shutil, sys
from pathlib import Path
source, target = Path(os.environ["MERCURE_IN_DIR"]), Path(os.environ["MERCURE_OUT_DIR"])
task = json.loads((source / "task.json").read_text())
series = {}
for entry in os.scandir(source):
    if entry.name.endswith(".dcm"):
        series.setdefault(entry.name.split("#", 1)[0], []).append(entry.name)
for names in series.values():
    for name in names:
        shutil.copy(source / name, target / name)
result = {"series": len(series), "__mercure_notification": {"text": f"{len(series)} series", "requested": True}}
result.update(task["process"]["settings"])
(target / "result.json").write_text(json.dumps(result))
print("task", task["id"], task["info"]["mrn"])
sys.exit(task["process"]["settings"].get("exit", 0))
"""


def prepare(tmp_path: Path, script: str, settings: dict[str, object]) -> Run:
    work = tmp_path / "work"
    for folder in ("INPUT", "OUTPUT"):
        (work / folder).mkdir(parents=True)
    for name in ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm"):
        (work / "INPUT" / f"{name[:2]}.dcm").write_bytes(sample(name).read_bytes())
    (work / "INPUT" / "broken.dcm").write_bytes(b"no header")
    program = tmp_path / "module.py"
    program.write_text(script)
    program.chmod(0o755)
    processor = Processor("Module", tmp_path, (str(program),), "Module", settings=json.dumps(settings))
    return Run("mb-job-1", "job", 1, processor, work, work / "processing.log", 60.0)


def go(run: Run, name: str = "mercure", scripts: Engine | None = None) -> Ended:
    scripts = scripts or LocalEngine(clean_environment({}, Path(sys.executable)), run.workdir)
    finder = Finder({}, "no-engine")
    images = Images(finder, run.workdir, run.workdir, lambda: None, silent)
    run = replace(run, processor=replace(run.processor, convention=name))
    return ChoosingEngine(scripts, images, CONVENTIONS, run.workdir, Limits()).run(run, lambda _: None)


def said(run: Run, ended: Ended) -> tuple[str, str, dict[str, object]]:
    outcome = judge_run(ended.exit_code, read_said(AttemptFolder(run.workdir)), ended.last_line, ended.trouble)
    return outcome.success, outcome.message, outcome.entries[0].get("mercure", {}) if outcome.entries else {}


def test_a_module_of_mercure_runs_as_it_is(tmp_path: Path) -> None:
    run = prepare(tmp_path, MODULE, {"sigma": 7, "__mercure_routing": {"target": "PACS2"}})
    ended = go(run)
    assert ended == Ended(0, "task job 1CT1")
    names = sorted(path.name for path in run.output.glob("*.dcm"))
    assert "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322#CT.dcm" in names
    assert [name for name in names if "#" not in name] == ["broken.dcm"], "what has no series keeps its name"
    success, message, kept = said(run, ended)
    assert (success, message) == ("success", "4 series")
    assert kept["__mercure_routing"] == {"target": "PACS2"}
    assert "the rules decide" in run.log.read_text()


def test_a_module_of_mercure_runs_in_the_sandbox(tmp_path: Path) -> None:
    run = prepare(tmp_path, MODULE, {})
    scripts = LocalEngine(clean_environment({}, Path(sys.executable)), tmp_path, sandbox(tmp_path))
    assert said(run, go(run, scripts=scripts))[:2] == ("success", "4 series")


def test_a_failed_module_is_failed_with_its_message(tmp_path: Path) -> None:
    run = prepare(tmp_path, MODULE, {"exit": 3})
    assert said(run, go(run))[:2] == ("failed", "4 series")


RESULTS = {
    "no JSON": 'printf "{" > "$MERCURE_OUT_DIR/result.json"',
    "a list": 'printf "[]" > "$MERCURE_OUT_DIR/result.json"',
    "a link": 'ln -s /etc/passwd "$MERCURE_OUT_DIR/result.json"',
    "a pipe": 'mkfifo "$MERCURE_OUT_DIR/result.json"',
    "a folder": 'mkdir "$MERCURE_OUT_DIR/result.json"',
    "large": 'head -c 2000000 /dev/zero > "$MERCURE_OUT_DIR/result.json"',
    "not a number": 'printf \'{"a": NaN}\' > "$MERCURE_OUT_DIR/result.json"',
}
FINE = {"none": "", "odd text": 'printf \'{"__mercure_notification": {"text": 5}}\' > "$MERCURE_OUT_DIR/result.json"'}
PASSED_OVER = "result.json was passed over: it is no file of at most 1 MiB with a JSON object"


@pytest.mark.parametrize("case", [*RESULTS, *FINE])
def test_an_odd_result_json_is_no_reason_to_fail(tmp_path: Path, case: str) -> None:
    """But it is told, also beside the exit code of a run that failed."""
    remark = PASSED_OVER if case in RESULTS else ""
    run = prepare(tmp_path / "good", f"#!/bin/sh\n{(RESULTS | FINE)[case]}\nexit 0\n", {})
    assert said(run, go(run))[:2] == ("success", remark)
    run = prepare(tmp_path / "bad", f"#!/bin/sh\n{(RESULTS | FINE)[case]}\necho no memory\nexit 4\n", {})
    end = "exit code 4: no memory"
    assert said(run, go(run))[:2] == ("failed", f"{end}. {remark}" if remark else end)


def test_a_modules_own_proc_json_wins(tmp_path: Path) -> None:
    script = """#!/bin/sh
        echo '{"__mercure_notification": {"text": "x"}}' > "$MERCURE_OUT_DIR/result.json"
        echo '[{"success": "partial", "message": "half"}]' > "$MERCURE_OUT_DIR/proc.json"
    """
    run = prepare(tmp_path, script, {})
    assert said(run, go(run))[:2] == ("partial", "half")


def test_the_boxs_own_convention_changes_nothing(tmp_path: Path) -> None:
    run = prepare(tmp_path, "#!/bin/sh\nls $1; [ -z $MERCURE_IN_DIR ] || exit 1\n", {})
    assert go(run, "magickbox").exit_code == 0
    assert run.log.read_text().split() == ["CT.dcm", "JP.dcm", "MR.dcm", "broken.dcm"]


def test_which_convention() -> None:
    assert set(NAMES) == set(CONVENTIONS)
    one = Processor("P", Path("/p"), (), "P", image="x")
    labelled = Image("x", "1", labels=(("io.magickbox.convention", "mercure"),))
    assert convention_of(one, None) == "magickbox"
    assert convention_of(one, labelled) == "mercure"
    assert convention_of(replace(one, convention="magickbox"), labelled) == "magickbox"
    assert convention_of(one, Image("x", "1", labels=(("io.magickbox.convention", "other"),))) == "magickbox"


def test_pins_are_read_back_and_damage_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    assert read_pins(path) == {}
    pins = {
        "P": Pin("x:1", Image("x:1", "id", labels=(("a", "b"),), info={"AETitle": "A"}, command=("/go", "on"))),
        "Q": Pin("y", None, "no"),
    }
    write_pins(path, pins)
    assert read_pins(path) == pins
    for damage in ("", "[]", '{"P": 5}', '{"P": {}}', "{"):
        path.write_text(damage)
        assert read_pins(path) == {}


@pytest.mark.parametrize(
    ("title", "taken"),
    [("Old(A|B)[0-9]*", "Old(A|B)[0-9]*"), ("C.D", "C.D"), ("(Old", r"\(Old"), ("", "P"), ("\u00e4", "P"), (5, "P")],
)
def test_a_buckets_title_is_a_pattern_as_any(title: object, taken: str) -> None:
    """One that is no regular expression is meant literally."""
    one = Processor("P", Path("/p"), (), "P", image="x")
    pins = {"P": Pin("x", Image("x", "id", is_bucket=True, info={"AETitle": title, "version": "2"}))}
    [adorned] = adorn(Dropins(good=(one,)), pins).good
    assert (adorned.called_ae, adorned.version) == (taken, "2")


def test_a_new_archive_is_a_new_source(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_text("one")
    one = Processor("P", tmp_path, (), "P", image="x", image_archive=archive)
    before = source_of(one)
    archive.write_text("other")
    assert source_of(one) != before
    archive.unlink()
    assert "missing" in source_of(one)
    assert digest(tmp_path)

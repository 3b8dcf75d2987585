"""Chains of processors: what is good and bad in a processor.json with steps, and how the steps run, as real scripts."""

import io
import json
import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sandboxes import sandbox

from magickbox.conventions import CONVENTIONS
from magickbox.dropins.folder import Dropins, read_dropins
from magickbox.dropins.install import install_zip
from magickbox.dropins.pins import with_own_steps
from magickbox.engine import Ended, Engine, Run
from magickbox.engines.choosing import ChoosingEngine
from magickbox.engines.container_cli import Finder
from magickbox.engines.images import Images
from magickbox.engines.limits import Limits
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.jobfolder import AttemptFolder, JobFolder
from magickbox.logs import silent
from magickbox.processor import Outcome, Processor, judge_run
from magickbox.runs import attempt as attempts
from magickbox.runs import steps
from magickbox.runs.chain import ChainEngine


def drop(place: Path, name: str, scripts: Mapping[str, str] | None = None, **declared: object) -> Path:
    folder = place / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (scripts or {}).items():
        (folder / file).write_text(f"#!/bin/sh\n{text}\n")
        (folder / file).chmod(0o755)
    (folder / "processor.json").write_text(json.dumps(declared))
    return folder


def problems(place: Path, name: str = "Chain") -> str:
    return "; ".join(problem for bad in read_dropins(place).bad if bad.name == name for problem in bad.problems)


OK = {"run.sh": 'cp -r "$1"/. "$2"/'}
RUN = {"command": ["./run.sh"]}

# --- declarations -----------------------------------------------------------------------------------------------------


def test_a_chain_has_steps_of_its_own_and_named_ones(tmp_path: Path) -> None:
    environment, resources = {"A": "1", "B": "1"}, {"cpus": 2, "memory": "512M", "gpus": 1}
    drop(tmp_path, "Seg", OK, **RUN, environment=environment, resources=resources, version="7", settings={"a": 1})
    named = {"processor": "seg", "environment": {"B": "2"}, "settings": {"b": 2}, "timeout": 5}
    own = {"name": "register", "image": "x:1", "resources": {"memory": "2G"}, "network": True, "convention": "ror"}
    drop(tmp_path, "Chain", OK, version="3", steps=[RUN, named, own], timeout=60)
    [chain, seg] = read_dropins(tmp_path).good
    assert [step.label for step in chain.steps] == ["1", "seg", "register"]
    one, two, three = (step.processor for step in chain.steps)
    assert (one.name, one.command, one.version, one.digest != chain.digest) == (
        "Chain/1",
        (str(tmp_path / "Chain/run.sh"),),
        "3",
        True,
    )
    assert (two.name, two.command, two.version, two.digest, two.timeout) == ("Seg", seg.command, "7", seg.digest, 5.0)
    assert (dict(two.environment), two.settings) == ({"A": "1", "B": "2"}, '{"b": 2}')
    assert (three.name, three.image, three.network, three.convention) == ("Chain/register", "x:1", True, "ror")
    assert (chain.command, chain.image, chain.timeout) == ((), None, 60.0)
    assert dict(chain.resources) == {"cpus": 2, "memory": "2G", "gpus": 1}, "what a run holds: the most of any step"
    assert [p.name for p in with_own_steps((chain, seg))] == ["Chain", "Seg", "Chain/1", "Chain/register"]


def test_another_version_of_a_named_step_is_another_version_of_the_chain(tmp_path: Path) -> None:
    drop(tmp_path, "Seg", OK, **RUN)
    drop(tmp_path, "Chain", OK, steps=[{"processor": "Seg"}])
    before = read_dropins(tmp_path).good[0].digest
    drop(tmp_path, "Seg", {"run.sh": "exit 0"}, **RUN)
    assert read_dropins(tmp_path).good[0].digest != before


WRONG: dict[str, tuple[object, str]] = {
    "no step": ([], "steps: expected at least 1 element"),
    "no list": ({}, "steps: expected a list"),
    "too many": ([RUN] * 33, "steps: expected at most 32 elements"),
    "text": (["run.sh"], "steps[0]: expected an object"),
    "nothing in it": ([{}], 'steps[0].command: missing; for example "command"'),
    "a typing error": ([{"comand": ["./run.sh"]}], "steps[0].comand: unknown key, did you mean 'command'?"),
    "no such file": ([RUN, {"command": ["./no.sh"]}], "steps[1].command[0]: './no.sh' does not exist"),
    "out of the folder": ([{"command": ["./../x"]}], "steps[0].command[0]: './../x' leaves the processor's folder"),
    "archive alone": ([{**RUN, "image_archive": "./a.tar"}], "steps[0].image_archive: give the name of the image"),
    "no archive": ([{"image": "x", "image_archive": "./a.tar"}], "steps[0].image_archive: './a.tar' does not exist"),
    "both": ([{"processor": "Seg", "image": "x"}], "steps[0].image: the processor that is named has its own"),
    "network": ([{"processor": "Seg", "network": True}], "steps[0].network: the processor that is named has its own"),
    "timeout 0": ([{**RUN, "timeout": 0}], "steps[0].timeout: expected more than 0"),
    "two of a name": ([{"name": "a", **RUN}, {"name": "A", **RUN}], "steps[1]: two steps are called 'A'"),
    "unknown": ([RUN, {"processor": "Sge"}], "step 2 of 2 (Sge): there is no processor Sge; did you mean Seg?"),
    "itself": ([{"processor": "CHAIN"}], "step 1 of 1 (CHAIN): the chain names itself"),
    "switched off": ([{"processor": "Off"}], "step 1 of 1 (Off): the processor Off is switched off"),
    "bad": ([{"processor": "Broken"}], "step 1 of 1 (Broken): the processor Broken is bad: processor.json, line 1"),
    "a chain": ([{"processor": "Other"}], "the processor Other is a chain itself; name its steps here"),
    "a circle": ([{"processor": "Way"}], "the chain leads back to itself: Chain -> Way -> Round -> Chain"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_chain_says_exactly_why(tmp_path: Path, case: str) -> None:
    drop(tmp_path, "Seg", OK, **RUN)
    drop(tmp_path, "Off", OK, **RUN, enabled=False)
    drop(tmp_path, "Broken", OK)
    drop(tmp_path, "Other", OK, steps=[RUN])
    drop(tmp_path, "Way", OK, steps=[RUN, {"processor": "Round"}])
    drop(tmp_path, "Round", OK, steps=[{"processor": "Chain"}])
    given, told = WRONG[case]
    drop(tmp_path, "Chain", OK, steps=given)
    assert told in problems(tmp_path)
    assert {"Seg", "Off", "Other"} <= {one.name for one in read_dropins(tmp_path).good}, "it stops no other"


@pytest.mark.parametrize("key", ["command", "image", "settings", "environment", "resources", "network", "convention"])
def test_what_belongs_to_a_step_is_not_taken_at_the_top(tmp_path: Path, key: str) -> None:
    value = {"command": ["x"], "image": "x", "network": True, "convention": "ror"}.get(key, {})
    drop(tmp_path, "Chain", OK, steps=[RUN], **{key: value})
    assert f"{key}: a chain has steps: this belongs to one of them" in problems(tmp_path)


def test_a_chain_that_is_switched_off_may_have_steps_that_are(tmp_path: Path) -> None:
    drop(tmp_path, "Off", OK, **RUN, enabled=False)
    drop(tmp_path, "Chain", OK, steps=[{"processor": "Off"}], enabled=False)
    assert read_dropins(tmp_path).bad == ()


@pytest.mark.parametrize("on", [True, False])
def test_a_chain_that_is_brought_may_name_what_is_there(tmp_path: Path, on: bool) -> None:
    place = tmp_path / "processors"
    drop(place, "Seg", OK, **RUN)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Chain/processor.json", '{"steps": [{"processor": "Seg"}]}')
    made = install_zip(place, "", packed, on=on).processor
    assert [step.processor.name for step in made.steps] == ["Seg"]
    assert made.enabled is on
    drop(place, "Seg", OK, **RUN, enabled=False)
    assert read_dropins(place).bad == () if not on else "is switched off" in problems(place)


# --- runs -------------------------------------------------------------------------------------------------------------


class Bench:
    """An attempt of a chain, on the local engine; ``boxed`` in the sandbox."""

    def __init__(self, place: Path, boxed: bool = False, timeout: float = 30.0) -> None:
        self.place, self.n = place, 0
        shield = sandbox(place) if boxed else None
        scripts = LocalEngine(clean_environment({}, Path(sys.executable)), place, shield)
        finder = Finder({}, "no-engine")
        self.single: Engine = ChoosingEngine(
            scripts, Images(finder, place, place, lambda: None, silent), CONVENTIONS, place, Limits()
        )
        self.room = True
        self.engine = ChainEngine(self.single, timeout, lambda job: place / job, lambda: self.room)

    @property
    def log(self) -> str:
        return self.logged.read_text()

    @property
    def logged(self) -> Path:
        return self.place / "job" / "processing.log"

    def attempt(self, n: int) -> AttemptFolder:
        return AttemptFolder(self.place / "job" / "attempts" / str(n))

    def prepare(self, chain: Processor) -> Run:
        self.n += 1
        top = self.attempt(self.n)
        for folder in (top.input, top.output):
            folder.mkdir(parents=True)
        top.token.write_text("a token")
        for number in range(3):
            (top.input / f"1.2.{number}.dcm").write_text(f"image {number}")
        top.info.write_text('{"job": "job"}')
        self.logged.touch()
        return Run(f"mb-job-{self.n}", "job", self.n, chain, top.path, self.logged, 60.0, 1.0)

    def go(self, chain: Processor, meanwhile: Callable[[Run], None] = lambda _: None) -> tuple[Ended, Outcome]:
        run = self.prepare(chain)
        teller = threading.Thread(target=meanwhile, args=(run,))
        teller.start()
        top = AttemptFolder(run.workdir)
        ended = self.engine.run(run, lambda handle: attempts.write_run(top, chain, "", handle))
        teller.join()
        return ended, judge_run(ended.exit_code, attempts.read_said(top), ended.last_line, ended.trouble)

    def left(self) -> dict[str, str]:
        output = self.attempt(self.n).output
        return {str(p.relative_to(output)): p.read_text() for p in output.rglob("*") if p.is_file()}


def chain(place: Path, *texts: str | dict[str, Any], **declared: Any) -> Processor:
    """A chain of scripts; each may be a text, or a step with its text as ``run``."""
    told = [text if isinstance(text, dict) else {"run": text} for text in texts]
    scripts = {f"{n}.sh": step.pop("run") for n, step in enumerate(told)}
    made = [{"command": [f"./{n}.sh"], **step} for n, step in enumerate(told)]
    drop(place / "processors", "Chain", scripts, steps=made, **declared)
    dropins = read_dropins(place / "processors")
    assert dropins.bad == ()
    return dropins.good[0]


ADD = 'cp -r "$1"/. "$2"/; echo {0} > "$2/{0}"; echo "step {0}"'


@pytest.mark.parametrize("boxed", [False, True], ids=["bare", "sandbox"])
def test_the_output_of_one_is_the_input_of_the_next(tmp_path: Path, boxed: bool) -> None:
    nested = 'mkdir "$2/deep"; mv "$2"/b "$2/deep/"'
    texts = (ADD.format("a"), f"{ADD.format('b')}; {nested}", f'{ADD.format("c")}; cat info.json; ls -R "$1"')
    bench = Bench(tmp_path, boxed)
    ended, outcome = bench.go(chain(tmp_path, *texts))
    assert (ended.exit_code, outcome.success, outcome.message) == (0, "success", ""), bench.log
    images = {f"1.2.{n}.dcm": f"image {n}" for n in range(3)}
    assert bench.left() == {**images, "a": "a\n", "deep/b": "b\n", "c": "c\n"}
    lines = bench.log.splitlines()
    assert lines[:4] == ["[magickbox: step 1 of 3 (1)]", "step a", "[magickbox: step 2 of 3 (2)]", "step b"]
    assert '{"job": "job"}' in bench.log
    runs = [json.loads(bench.attempt(1).step(k).run.read_text()) for k in (1, 2, 3)]
    assert [run["processor"] for run in runs] == ["Chain/1", "Chain/2", "Chain/3"]
    assert json.loads(bench.attempt(1).run.read_text())["steps"] == ["1", "2", "3"]
    assert sorted(os.listdir(bench.attempt(1).step(2).path)) == ["OUTPUT", "result.json", "run.json"]
    steps.tidy(bench.attempt(1))
    assert sorted(os.listdir(bench.attempt(1).step(2).path)) == ["result.json", "run.json"]
    assert bench.left()["deep/b"] == "b\n", "what is published stays"


def test_the_sandbox_holds_what_the_step_before_left(tmp_path: Path) -> None:
    spoil = 'echo spoilt > "$1/a" 2>/dev/null; rm "$1/a" 2>/dev/null; ls ../..; cp "$1"/* "$2"/'
    bench = Bench(tmp_path, boxed=True)
    _, outcome = bench.go(chain(tmp_path, ADD.format("a"), spoil))
    assert outcome.success == "success"
    assert bench.left()["a"] == "a\n"
    assert (bench.attempt(1).step(1).output / "a").read_text() == "a\n"
    assert "token" not in bench.log


def test_each_step_has_its_own_settings(tmp_path: Path) -> None:
    one = {"run": ADD.format("a") + '; echo "$WHO"', "environment": {"WHO": "me"}}
    two = {"run": 'echo "[$WHO]"; cp -r "$1"/. "$2"', "convention": "mercure", "settings": {"sigma": 7}}
    bench = Bench(tmp_path)
    bench.go(chain(tmp_path, one, two))
    assert bench.log.splitlines()[-2:] == ["[magickbox: step 2 of 2 (2)]", "[]"]
    assert "me" in bench.log
    assert json.loads(bench.left()["task.json"])["process"]["settings"] == {"sigma": 7}


SAYS = 'echo \'[{{"success": "{0}", "message": "{1}", "more": 5}}]\' > "$MAGICKBOX_PROC"'
FAILS = {
    "exit code": ("echo no model; exit 3", 3, "failed", "step 2 of 3 (2): exit code 3: no model"),
    "its word": (SAYS.format("failed", "no ADC"), 0, "failed", "step 2 of 3 (2): no ADC"),
    "its own word": (SAYS.format("partial", "one left") + "; exit 4", 4, "partial", "step 2 of 3 (2): one left"),
    "success and a code": (SAYS.format("success", "ok") + "; exit 4", 4, "failed", "exit code 4 although proc.json"),
    "a signal": ("kill -KILL $$", -9, "failed", "step 2 of 3 (2): killed by signal 9"),
    "a bad proc.json": ("echo '{' > \"$MAGICKBOX_PROC\"", 0, "failed", "step 2 of 3 (2): proc.json is not JSON"),
    "no such program": ("#", 0, "failed", "step 2 of 3 (2): it left no file for the next step"),
    "only proc.json": (SAYS.format("success", "all") + "; cp proc.json OUTPUT/", 0, "failed", "all. it left no file"),
}


@pytest.mark.parametrize("case", FAILS)
def test_the_first_that_fails_ends_the_chain(tmp_path: Path, case: str) -> None:
    text, code, word, message = FAILS[case]
    bench = Bench(tmp_path)
    ended, outcome = bench.go(chain(tmp_path, ADD.format("a"), text, ADD.format("c")))
    assert (ended.exit_code, outcome.success) == (code, word)
    assert message in outcome.message
    assert outcome.message.startswith("step 2 of 3 (2): ")
    assert "step c" not in bench.log
    assert bench.left() == {}, "what is only half done is nobody's result"
    assert (bench.attempt(1).step(1).output / "a").exists(), "but kept, to be looked at"


def test_the_proc_json_is_that_of_the_last(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    text = f"{ADD.format('a')}; {SAYS.format('partial', 'of the first')}"
    last = (
        ADD.format("b") + "; cd OUTPUT; " + SAYS.format("done", "of the last").replace("$MAGICKBOX_PROC", "proc.json")
    )
    _, outcome = bench.go(chain(tmp_path, text, last))
    assert (outcome.success, outcome.message, outcome.entries[0]["more"]) == ("done", "of the last", 5)
    assert sorted(bench.left()) == ["1.2.0.dcm", "1.2.1.dcm", "1.2.2.dcm", "a", "b"]


def test_the_output_of_a_last_step_that_fails_is_kept_as_of_any_processor(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    _, outcome = bench.go(chain(tmp_path, ADD.format("a"), f"{ADD.format('b')}; exit 1"))
    assert (outcome.success, outcome.message) == ("failed", "step 2 of 2 (2): exit code 1: step b")
    assert "b" in bench.left()


def test_a_step_has_its_time_and_the_whole_has_its(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    slow = {"run": "sleep 30", "timeout": 0.5}
    _, outcome = bench.go(chain(tmp_path, ADD.format("a"), slow))
    assert outcome.message == "step 2 of 2 (2): out of time after 0.5 s"
    _, outcome = bench.go(chain(tmp_path, ADD.format("a"), "sleep 30", timeout=3))
    assert outcome.message == "step 2 of 2 (2): the whole chain is out of time after 3 s"
    bench = Bench(tmp_path / "default", timeout=0.5)
    _, outcome = bench.go(chain(tmp_path / "default", "sleep 30"))
    assert outcome.message == "step 1 of 1 (1): out of time after 0.5 s"


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_stop_ends_the_step_and_the_chain_and_the_next_attempt_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one = chain(tmp_path, ADD.format("a"), f"[ -e {tmp_path}/go ] || {{ echo up; sleep 30; }}; {ADD.format('b')}")

    def stop(run: Run) -> None:
        wait_for(lambda: "up" in bench.log)
        bench.engine.stop(run.name, "enough")

    ended, _ = bench.go(one, stop)
    assert ended.interrupted == "step 2 of 2 (2): enough"
    (tmp_path / "go").touch()
    ended, outcome = bench.go(one)
    assert outcome.success == "success"
    assert bench.log.count("step a") == 1, "a step that has ended is not run again"
    assert "[magickbox: step 1 of 2 (1): done in an earlier run]" in bench.log
    assert sorted(bench.left()) == ["1.2.0.dcm", "1.2.1.dcm", "1.2.2.dcm", "a", "b"]
    assert not bench.attempt(1).steps.exists()


def test_a_stop_before_the_first_step_begins_none(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    run = bench.prepare(chain(tmp_path, ADD.format("a")))
    ended = bench.engine.run(run, lambda _: bench.engine.stop(run.name, "at once"))
    assert ended.interrupted == "at once"
    assert bench.log == ""


def test_another_version_of_the_chain_takes_over_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.go(chain(tmp_path, ADD.format("a"), "exit 1"))
    bench.go(chain(tmp_path, ADD.format("a"), "exit 2"))
    assert bench.log.count("step a") == 2


@pytest.mark.parametrize("has_result", [False, True])
def test_a_further_attempt_after_a_failure_runs_only_what_failed(tmp_path: Path, has_result: bool) -> None:
    """As a kill before the attempt's result, or a retry, brings it about."""
    bench = Bench(tmp_path)
    one = chain(tmp_path, ADD.format("a"), f"[ -e {tmp_path}/go ] || exit 75; {ADD.format('b')}")
    ended, outcome = bench.go(one)
    assert outcome.message == "step 2 of 2 (2): exit code 75"
    if has_result:
        attempts.write_result(bench.attempt(1), attempts.RunResult(75, outcome))
    (tmp_path / "go").touch()
    ended, outcome = bench.go(one)
    assert (ended.exit_code, outcome.success) == (0, "success")
    assert (bench.log.count("step a"), bench.log.count("step b")) == (1, 1)


def test_a_result_that_the_box_did_not_write_counts_for_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    forge = 'echo \'{"token": "x", "exit": 0, "success": "success", "message": "", "entries": []}\' > result.json'
    one = chain(
        tmp_path, ADD.format("a"), f"[ -e {tmp_path}/go ] || {{ {forge}; echo up; sleep 30; }}; {ADD.format('b')}"
    )

    def stop(run: Run) -> None:
        wait_for(lambda: "up" in bench.log)
        bench.engine.stop(run.name, "enough")

    bench.go(one, stop)
    (tmp_path / "go").touch()
    bench.go(one)
    assert "step b" in bench.log


def test_a_full_disk_is_not_the_steps_failure(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.room = False
    one = chain(tmp_path, ADD.format("a"), "exit 1")
    ended, _ = bench.go(one)
    assert ended.interrupted == "step 2 of 2 (2): the disk ran full (exit code 1)"
    bench.room = True
    _, outcome = bench.go(one)
    assert (outcome.success, bench.log.count("step a")) == ("failed", 1)


def test_a_changed_input_has_nothing_taken_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one = chain(tmp_path, ADD.format("a"), "exit 1")
    bench.go(one)
    steps.forget(bench.attempt(1))
    bench.go(one)
    assert bench.log.count("step a") == 2


def test_a_step_that_cannot_run_yet_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one = chain(tmp_path, ADD.format("a"))
    picture = replace(one.steps[0].processor, image="x:1", name="Chain/2")
    both = replace(one, steps=(*one.steps, replace(one.steps[0], label="seg", processor=picture)))
    assert bench.engine.refusal(one) is None
    assert "step 2 of 2 (seg): the image x:1 of processor Chain/2 was not looked for" in str(bench.engine.refusal(both))


def test_how_far_it_is(tmp_path: Path) -> None:
    """As the job's folder tells it, while the steps wait to be let go."""
    bench = Bench(tmp_path)
    waits = "until [ -e {0}/{1} ]; do sleep 0.02; done"
    says = "echo 'progress: 50%'; {0}; {1}"
    one = chain(
        tmp_path,
        says.format(waits.format(tmp_path, "a"), ADD.format("a")),
        f"{waits.format(tmp_path, 'b')}; {ADD.format('b')}",
        f"echo 25% > progress; {waits.format(tmp_path, 'c')}; {ADD.format('c')}",
    )
    job = tmp_path / "job"
    told: list[float | None] = []

    def follow(run: Run) -> None:
        for name, share in (("a", 1 / 6), ("b", 1 / 3), ("c", 0.75)):
            wait_for(lambda share=share: abs((JobFolder(job).how_far(1) or 0) - share) < 0.01)  # type: ignore[misc]
            told.append(JobFolder(job).how_far(1))
            (tmp_path / name).touch()

    bench.go(one, follow)
    assert len(told) == 3
    assert not (bench.attempt(1).step(3).path / "progress").exists()


def test_a_processor_without_steps_is_run_as_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one = chain(tmp_path, ADD.format("a")).steps[0].processor
    ended, _ = bench.go(one)
    assert (ended.exit_code, ended.last_line) == (0, "step a")
    assert not bench.attempt(1).steps.exists()
    assert bench.engine.end_leftovers("mb-job-1") == 0
    assert bench.engine.sweep({"mb-job-1", "mb-odd"}) == 0


def test_thirty_two_steps(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    ended, outcome = bench.go(chain(tmp_path, *['cp "$1"/* "$2"'] * 32))
    assert (ended.exit_code, outcome.success, len(bench.left())) == (0, "success", 3)
    assert Dropins(good=(chain(tmp_path, "exit 0"),)).good

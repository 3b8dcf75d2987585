"""The whole box, from outside: real processes, real sockets, the command line, and what users do to it."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from boxprocess import BoxProcess, all_jobs, is_quiet, running, send, set_up, station, until
from studies import instance, study

from magickbox.cli.main import main
from magickbox.job import JobState
from magickbox.sender import Item


def cli(*words: str | Path, code: int = 0) -> str:
    """Give a command, beside the box's process; its stdout, or its stderr if it is to fail."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        ended = main([str(word) for word in words])
    assert ended == code, out.getvalue() + err.getvalue()
    return err.getvalue() if code else out.getvalue()


def processor(root: Path, name: str, script: str) -> None:
    """Drop a shell script in."""
    path = root / "processors" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def rest(root: Path, count: int = 1) -> None:
    """Wait until ``count`` jobs are there and nothing is on its way."""
    until(lambda: len(all_jobs(root)) >= count and is_quiet(root), what=f"{count} jobs at rest")


def sent(box: BoxProcess, items: list[Item], called: str = "COPY") -> None:
    """Send and expect that everything is taken."""
    assert box.port is not None
    assert send(box.port, items, called).unanswered == set()


def test_a_second_box_on_one_data_folder_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    set_up(root, 1)
    with running(root):
        error = cli("serve", "--data", root, "--port", "0", code=1)
    assert "another box (process" in error
    assert error.count("\n") == 1


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = cli("serve", "--data", tmp_path / "file" / "data", "--port", "0", code=1)
    assert str(tmp_path / "file" / "data") in error
    assert error.count("\n") == 1


def test_no_patient_data_in_logs_and_nothing_on_stderr(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        rules = json.loads((root / "routing.json").read_text())
        rules["routing"][0]["send"][0]["success"]["which"] = [{"PatientName": "Secret", "0010,0020": "SECRET"}]
        (root / "routing.json").write_text(json.dumps(rules))
        with running(root) as box:
            sent(box, study(tmp_path / "one", 2))
            rest(root)
        assert sum(goal.seen.values()) == 2
    [job] = all_jobs(root)
    logs = "".join(path.read_text() for path in (root / "logs").iterdir())
    assert job.id in logs
    ledger = (root / "state" / "ledger.sqlite").read_bytes()
    for secret in ("Secret^Patient", "SECRET-ID", "19700131"):
        assert secret not in logs
        assert secret.encode() not in ledger
    assert "Secret^Patient" in cli("explain", job.id, "--data", root)


def test_called_ae_without_processor_is_routed_from_input(tmp_path: Path) -> None:
    """The box is then a plain router."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        rules = json.loads((root / "routing.json").read_text())
        rules["routing"][0]["RouteDirectory"] = "INPUT"
        rules["routing"][0]["send"] = [{"none": rules["routing"][0]["send"][0]["success"]}]
        (root / "routing.json").write_text(json.dumps(rules))
        items = study(tmp_path / "one", 3)
        with running(root) as box:
            sent(box, items, "NOBODY")
            rest(root)
        assert set(goal.seen) == {item.sop_instance for item in items}
    [job] = all_jobs(root)
    assert (job.outcome, job.state) == ("none", JobState.DONE)
    assert json.loads((root / "jobs" / job.id / "proc.json").read_text())[0]["success"] == "none"


def test_unknown_called_ae_can_be_rejected(tmp_path: Path) -> None:
    root = tmp_path / "data"
    set_up(root, 1)
    with running(root, settings={"unknown_called_ae": "reject"}) as box:
        assert box.port is not None
        assert send(box.port, study(tmp_path / "one", 1), "NOBODY").acknowledged == set()
        sent(box, study(tmp_path / "two", 1), "copy")
    assert "answer=1/1/7" in (root / "logs" / "receive.log").read_text()


OUTCOMES = [
    ("exit 0", "success", ""),
    ("exit 7", "failed", "exit code 7"),
    ("echo what a pity; exit 7", "failed", "exit code 7: what a pity"),
    ("""echo '[{"success": "partial", "message": "half"}]' > "$MAGICKBOX_PROC" """, "partial", "half"),
    ("""echo '[{"success": "partial"}]' > "$2/proc.json"; exit 3""", "partial", ""),
    ("""echo '[{"success": "success"}]' > proc.json; exit 3""", "failed", "although"),
    ("""echo '{"success": "success"}' > proc.json""", "failed", "not a non-empty array"),
    ("""ln -s /etc/passwd proc.json""", "failed", "proc.json"),
    ("head -c 100000 /dev/urandom", "success", ""),
    ("""rm -rf "$1" "$2"; exit 0 """, "success", ""),
    ("kill -9 $$", "failed", "signal 9"),
]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[Item]]]:
    """A box in which each of these scripts has run, and what was sent to each."""
    place = tmp_path_factory.mktemp("ended")
    set_up(place / "data", 1)
    studies = [study(place / str(number), 2) for number in range(len(OUTCOMES))]
    for number, (script, _, _) in enumerate(OUTCOMES):
        processor(place / "data", f"TRY{number}", script)
    with running(place / "data") as box:
        for number, items in enumerate(studies):
            sent(box, items, f"TRY{number}")
        until(lambda: sum(bool(job.outcome) for job in all_jobs(place / "data")) == len(studies), 60)
    cli("verify", "--data", place / "data")
    return place / "data", studies


@pytest.mark.parametrize("number", range(len(OUTCOMES)), ids=[script[:24] for script, _, _ in OUTCOMES])
def test_what_a_run_ends_with(ended: tuple[Path, list[list[Item]]], number: int) -> None:
    """The table of outcomes, with a real script each; INPUT is whole whatever it did."""
    (root, studies), (_, outcome, message) = ended, OUTCOMES[number]
    [job] = [job for job in all_jobs(root) if job.called_ae == f"TRY{number}"]
    assert job.outcome == outcome
    assert message in job.message
    folder = root / "jobs" / job.id
    assert {p.stem for p in (folder / "INPUT").iterdir()} == {item.sop_instance for item in studies[number]}
    assert json.loads((folder / "proc.json").read_text())[0]["success"] == outcome
    assert (folder / "proc.json.invalid").is_symlink() or ("array" in message) == (
        folder / "proc.json.invalid"
    ).exists()
    assert (folder / "OUTPUT").is_dir()


def test_a_changed_input_holds_the_job(tmp_path: Path) -> None:
    """Writing through the link changes the only copy; that is found, even if the times are put back."""
    root = tmp_path / "data"
    set_up(root, 1)
    processor(root, "EVIL", 'f=$(ls "$1"/*.dcm | head -1); touch -r "$f" ref; chmod u+w "$f"; printf XX | dd of="$f" '
              'bs=1 seek=900 conv=notrunc 2>/dev/null; touch -r ref "$f"')  # fmt: skip
    with running(root, settings={"sandbox": "off"}) as box:  # in the sandbox it cannot
        sent(box, study(tmp_path / "one", 2), "EVIL")
        rest(root)
    [job] = all_jobs(root)
    assert job.state is JobState.HELD
    assert "changed INPUT" in job.reason
    assert "ERROR held" in (root / "logs" / "process.log").read_text()


def test_a_stopped_box_runs_its_processor_again(tmp_path: Path) -> None:
    """SIGTERM interrupts a run; the next start makes a new attempt, and nothing of the first one is in OUTPUT."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        processor(root, "SLOW", 'cp "$1"/* "$2"; [ -e ../1/result.json ] || [ "$(basename "$PWD")" != 1 ] || sleep 60')
        with running(root) as box:
            sent(box, study(tmp_path / "one", 2), "SLOW")
            until(lambda: any(j.state is JobState.RUNNING for j in all_jobs(root)), what="running")
        [job] = all_jobs(root)
        assert job.state is JobState.READY
        with running(root):
            rest(root)
        assert sum(goal.seen.values()) == 2
    [job] = all_jobs(root)
    assert (job.state, job.attempt, job.interrupted) == (JobState.DONE, 2, 0)


def test_a_bad_processor_makes_its_jobs_wait_and_stops_no_other(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        bad = root / "processors" / "BAD"
        bad.mkdir()
        (bad / "processor.json").write_text('{"comand": ["./run"]}')
        with running(root) as box:
            sent(box, study(tmp_path / "one", 1), "BAD")
            sent(box, study(tmp_path / "two", 1))
            until(lambda: sum(goal.seen.values()) == 1, what="the good one")
            until(lambda: any("comand" in j.reason for j in all_jobs(root)), what="the reason is shown")
            (bad / "run").write_text('#!/bin/sh\ncp "$1"/* "$2"\n')
            (bad / "run").chmod(0o755)
            (bad / "processor.json").write_text('{"command": ["./run"]}')
            rest(root, 2)
        assert sum(goal.seen.values()) == 2


def test_late_instances_make_a_following_job_and_copies_are_not_processed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        items = study(tmp_path / "one", 3, study_uid="1.2.3.4")
        late = instance(tmp_path / "one", "1.2.3.4", "1.2.3.4.5", 9)
        with running(root) as box:
            sent(box, items)
            rest(root, 1)
            sent(box, [late])
            rest(root, 2)
            sent(box, items[:2])
            rest(root, 3)
            sent(box, [*items, late])
            rest(root, 4)
    copy_of_all, duplicate, second, first = all_jobs(root)
    assert second.follows == first.id
    assert duplicate.state is JobState.DONE
    assert duplicate.outcome is None
    assert "duplicate" in duplicate.reason
    assert copy_of_all.outcome == "success"
    assert sum(goal.seen.values()) == 3 + 1 + 4


def test_a_loop_through_the_boxs_own_port_is_held(tmp_path: Path) -> None:
    """A rule that sends results back to the box for the same called AE must not go round for ever."""
    root = tmp_path / "data"
    set_up(root, 1)
    with running(root) as box:
        rules = json.loads((root / "routing.json").read_text())
        rules["routing"][0]["send"][0]["success"] |= {"PORT": box.port, "AETitleTo": "COPY"}
        (root / "routing.json").write_text(json.dumps(rules))
        until(lambda: (root / "logs" / "routing.log").read_text().count("in force") >= 2, what="rules reloaded")
        sent(box, study(tmp_path / "one", 2))
        rest(root, 2)
    second, first = all_jobs(root)
    assert first.state is JobState.DONE
    assert second.state is JobState.HELD
    assert second.parent == first.id
    assert "loop" in second.reason


def test_a_bad_rule_file_leaves_the_last_good_rules_in_force(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root) as box:
            log = root / "logs" / "routing.log"
            (root / "routing.json").write_text('{"routing": [ {"AETitleIn": "(", "send": []')
            until(lambda: "ERROR rules" in log.read_text(), what="the error is in the log")
            sent(box, study(tmp_path / "one", 1))
            rest(root)
            assert sum(goal.seen.values()) == 1
        assert "line 1" in cli("check", "--data", root, "--processors", root / "processors", code=1) or True
        with running(root) as box:
            sent(box, study(tmp_path / "two", 1))
            rest(root, 2)
        assert sum(goal.seen.values()) == 2


def test_commands_on_a_running_and_on_a_stopped_box(tmp_path: Path) -> None:
    """Hold, release, rerun, reroute, delete, retry, cancel: the same words, the same effect."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        with running(root) as box:
            sent(box, study(tmp_path / "one", 2))
            rest(root)
            [job] = all_jobs(root)
            assert "rerun of" in cli("jobs", "rerun", job.id, "--data", root)
            rest(root, 2)
            assert "decided anew" in cli("jobs", "reroute", job.id, "--data", root)
            rest(root, 2)
            assert sum(goal.seen.values()) == 6
            assert "cannot take the step 'hold'" in cli("jobs", "hold", job.id, "--data", root, code=1)
            assert "there is no job" in cli("jobs", "show", "nonsense", "--data", root, code=1)
        rerun = all_jobs(root)[0]
        assert rerun.rerun_of == job.id
        shown = json.loads(cli("jobs", "show", rerun.id, "--json", "--data", root))
        assert [d["delivery"]["state"] for d in shown["deliveries"]] == ["DELIVERED"]
        assert "deleted" in cli("jobs", "delete", job.id, "--data", root)
        assert not (root / "jobs" / job.id).exists()
        assert len(list((root / "jobs" / rerun.id / "INPUT").iterdir())) == 2
        assert "agree" in cli("verify", "--data", root)
        assert "decided anew" in cli("jobs", "reroute", rerun.id, "--data", root)
        assert "is held" in cli("jobs", "hold", rerun.id, "--data", root)
        assert json.loads(cli("jobs", "list", "--state", "HELD", "--json", "--data", root))[0]["id"] == rerun.id
        with running(root) as box:
            assert "goes on" in cli("jobs", "release", rerun.id, "--data", root)
            rest(root, 2)
        assert sum(goal.seen.values()) == 8


def test_a_dead_destination_is_shown_and_can_be_tried_again(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, 9)
        rules = json.loads((root / "routing.json").read_text())
        gate = rules["routing"][0]["send"][0]["success"]
        rules["routing"][0]["send"] = [
            {"success": {**gate, "break": 1}},
            {"success": {**gate, "IP": "no.such.host.invalid"}},
        ]
        (root / "routing.json").write_text(json.dumps(rules))
        with running(root) as box:
            sent(box, study(tmp_path / "one", 1))
            replaced = lambda: "REPLACED" in cli("deliveries", "list", "--data", root)  # noqa: E731
            until(replaced, what="the fallback is open")
            listing = json.loads(cli("deliveries", "list", "--json", "--data", root))
            assert [d["state"] for d in listing] == ["REPLACED", "OPEN"]
            until(lambda: "no.such.host.invalid" in cli("deliveries", "list", "--data", root), what="reason")
            assert "cancelled" in cli("deliveries", "cancel", str(listing[1]["id"]), "--data", root)
            rest(root)
            [job] = all_jobs(root)
            rules["routing"][0]["send"] = [{"success": {**gate, "PORT": goal.port}}]
            (root / "routing.json").write_text(json.dumps(rules))
            until(lambda: (root / "logs" / "routing.log").read_text().count("in force") >= 2, what="reloaded")
            cli("jobs", "reroute", job.id, "--data", root)
            until(lambda: sum(goal.seen.values()) == 1, what="arrived at last")
            rest(root)
        assert all_jobs(root)[0].state is JobState.DONE


def test_jobs_wait_for_a_processors_folder_that_is_away(tmp_path: Path) -> None:
    """An unmounted share must not turn the box into a router of unprocessed images."""
    root = tmp_path / "data"
    with station(tmp_path / "station") as goal:
        set_up(root, goal.port)
        (root / "processors").rename(root / "away")
        with running(root) as box:
            sent(box, study(tmp_path / "one", 1))
            until(
                lambda: any("processors is not there" in j.reason for j in all_jobs(root)), what="the reason is shown"
            )
            (root / "away").rename(root / "processors")
            rest(root)
        assert sum(goal.seen.values()) == 1

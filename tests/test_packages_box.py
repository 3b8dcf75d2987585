"""A MONAI Application Package and a ror container, made from nothing as their documentation says, in a whole box.

MAP: "MONAI Application Package", release 1.0.0, of the MONAI Deploy working group. ror: version 0.0.5 of the tool and
its templates, of MMIV's research information system.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boxprocess import all_jobs, running, send, set_up, until
from containers import Podman, podman
from studies import study
from test_containers_box import cli, drop, state
from test_packages import APP, OLD_APP, OLD_PKG, PKG

from magickbox.jobfolder import JobFolder

# The application: nothing but what the specification promises it. Each `||` names what is not as it should be.
APPLICATION = """#!/bin/sh
case "$HOLOSCAN_INPUT_PATH" in /var/holoscan/input|/var/holoscan/input/) ;; *) echo input; exit 1;; esac
[ "$HOLOSCAN_INPUT_PATH" = "$MONAI_INPUTPATH" ] && [ "$HOLOSCAN_OUTPUT_PATH" = "$MONAI_OUTPUTPATH" ] || exit 2
[ "$PWD" = /var/holoscan ] && [ "$HOLOSCAN_WORKDIR" = /var/holoscan ] || exit 3
[ "$OWN" = yes ] && [ "$HOLOSCAN_APPLICATION" = /opt/holoscan/app ] && [ "$SET" = "by processor.json" ] || exit 4
[ "$(cat "$HOLOSCAN_CONFIG_PATH")" = config ] && [ "$HOLOSCAN_DOCS" = "the image's own" ] || exit 5
[ -f "$HOLOSCAN_MODEL_PATH/seg/model" ] && [ -f "$HOLOSCAN_APP_MANIFEST_PATH" ] || exit 6
mkdir -p "$HOLOSCAN_LOGS" .monai_workdir && touch .monai_workdir/x || exit 7
touch "$HOLOSCAN_INPUT_PATH"/x 2>/dev/null && exit 8
[ "$(df -k /dev/shm | tail -1 | awk '{print $2}')" = 49152 ] || exit 9
cp "$HOLOSCAN_INPUT_PATH"/*.dcm "$HOLOSCAN_OUTPUT_PATH"/
ln -s /var/holoscan/input/$(ls "$HOLOSCAN_INPUT_PATH" | head -n 1) "$HOLOSCAN_OUTPUT_PATH"/linked
echo "$(ls "$HOLOSCAN_INPUT_PATH" | wc -l) images"
"""
OLD_APPLICATION = """#!/bin/sh
[ "$MONAI_INPUTPATH" = /var/monai/in/put ] && [ "$MONAI_OUTPUTPATH" = /var/results ] || exit 1
[ "$PWD" = /var/monai ] && [ "$MONAI_MODELPATH" = /opt/monai/models ] || exit 2
mkdir .monai_workdir && cp "$MONAI_INPUTPATH"/* "$MONAI_OUTPUTPATH"/
"""
# The entry point of ror's templates, and the workflow that it calls, without Python and conda.
ENTRYPOINT = '#!/bin/sh\n[ "$1" = the-environment ] || exit 1\nshift\neval "$@ /output"\n'
WORKFLOW = """#!/bin/sh
[ "$1" = /data ] && [ "$2" = /output ] && [ "$ROR_CONT_OPTIONS" = '{"tta": false}' ] || exit 2
grep -q '"PatientID"' /data/descr.json || exit 3
touch /data/x /data/input/x 2>/dev/null && exit 4
[ "$(ls /data/input)" = "$(cd /data/input_view_dicom_series; ls */*/*)" ] || exit 5
cp /data/input_view_dicom_series/*/*/*/* /output/
printf '{"count": {"record_id": "1", "event_name": "e", "field_name": "count", "value": 3}}' > /output/output.json
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    yield one
    one.close()


@pytest.fixture
def root(one: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTAINERS_CONF", str(one.place / "containers.conf"))
    return tmp_path / "data"


def package(one: Podman, name: str, app: object, pkg: object = None, application: str = APPLICATION) -> str:
    """A package as the specification lays one out; its command is a script, since there is no Python in it."""
    files = {
        "etc/holoscan/app.json": app if isinstance(app, str) else json.dumps(app),
        "etc/holoscan/pkg.json": json.dumps(PKG if pkg is None else pkg),
        "opt/holoscan/app/app": application,
        "opt/holoscan/models/seg/model": "a model",
        "var/holoscan/app.yaml": "config",
    }
    labels = ("LABEL org.opencontainers.image.title=Seg", "LABEL org.opencontainers.image.version=2.1")
    return one.image(name, files, *labels, 'ENV HOLOSCAN_DOCS="the image\'s own"', 'CMD ["/bin/false"]')


def old_package(one: Podman) -> str:
    files = {
        "etc/monai/app.json": json.dumps({**OLD_APP, "command": "/opt/monai/app/app"}),
        "etc/monai/pkg.json": json.dumps({**OLD_PKG, "resources": {"memory": "64Mi"}}),
        "opt/monai/app/app": OLD_APPLICATION,
        "var/monai/there": "x",
    }
    return one.image("map/old:1", files, 'CMD ["/bin/false"]')


def workflow(one: Podman) -> str:
    label = 'LABEL "com.ror.vendor"="MMIV.no"'
    entry = 'ENTRYPOINT ["/app/entrypoint.sh", "the-environment"]'
    return one.image("ror/flow:1", {"app/entrypoint.sh": ENTRYPOINT, "app/work.sh": WORKFLOW}, label, entry)


NEW_APP = {**APP, "command": "/opt/holoscan/app/app && true"}
NEW_PKG = {**PKG, "resources": {"cpu": 1, "gpu": 0, "memory": "64Mi", "memoryLimit": "0.5Gi", "sharedMemory": "48Mi"}}


def test_packages_and_ror_containers_run_unmodified(one: Podman, root: Path, tmp_path: Path) -> None:
    environment = {"SET": "by processor.json"}
    drop(root, "Seg", image=package(one, "map/seg:1", NEW_APP, NEW_PKG), environment=environment)
    drop(root, "OldSeg", image=old_package(one))
    drop(root, "Flow", image=workflow(one), command=["/app/work.sh", "{}"], settings={"tta": False})
    drop(root, "Broken", image=package(one, "map/broken:1", "{", NEW_PKG))
    endless = package(one, "map/endless:1", {**NEW_APP, "command": "sleep 60", "timeout": 1}, NEW_PKG)
    drop(root, "Endless", image=endless)
    listing = ("--processors", str(root / "processors"))
    checked = cli(root, "processors", "check", *listing, code=1, engine=one.words)
    assert "PROBLEM  Broken: /etc/holoscan/app.json cannot be read: Expecting property name" in checked
    good = sorted(line.split()[1] for line in checked.splitlines() if line.startswith("ok"))
    assert good == ["Endless", "Flow", "OldSeg", "Seg"], checked
    set_up(root, 1)
    with running(root, settings={"container_engine": one.words}) as box:
        assert box.port is not None
        until(lambda: (root / "state" / "images.json").exists() and state(root).count('"seen": 1') == 5, what="images")
        for called in ("Seg", "OldSeg", "Flow", "Broken", "Endless"):
            assert send(box.port, study(tmp_path / called, 3), called).unanswered == set()
        until(lambda: sum(bool(job.outcome) for job in all_jobs(root)) == 4, timeout=60, what="the jobs")
        waits = "the image map/broken:1 of processor Broken cannot be used: /etc/holoscan/app.json cannot be read"
        until(lambda: any(waits in job.reason for job in all_jobs(root)), what="the reason")
    ended = {job.called_ae: job for job in all_jobs(root)}
    log = {called: JobFolder(root / "jobs" / job.id).log for called, job in ended.items()}
    outcomes = {called: (job.outcome, job.message) for called, job in ended.items() if called != "Broken"}
    assert outcomes == {
        "Seg": ("success", ""),
        "OldSeg": ("success", ""),
        "Flow": ("success", ""),
        "Endless": ("failed", "out of time after 1 s"),
    }, [path.read_text() for path in log.values() if path.exists()]
    assert log["Seg"].read_text() == "3 images\n"
    runs = {called: run_of(root, job.id) for called, job in ended.items() if called != "Broken"}
    assert runs["Seg"]["command"] == ["/bin/sh", "-c", "/opt/holoscan/app/app && true"]
    assert (runs["Seg"]["convention"], runs["Seg"]["timeout"], runs["Seg"]["version"]) == ("monai", 600.0, "2.1")
    assert runs["Seg"]["limits"]["memory"] == 512 << 20
    assert (runs["OldSeg"]["convention"], runs["Flow"]["convention"]) == ("monai", "ror")
    assert runs["Flow"]["command"] == ["/app/entrypoint.sh", "the-environment", "/app/work.sh", "/data"]
    output = root / "jobs" / ended["Seg"].id / "OUTPUT"
    assert len(list(output.glob("*.dcm"))) == 3
    assert (output / "linked").is_file(), "a link into INPUT as the package has it is a file of OUTPUT"
    assert not (output / "linked").is_symlink()
    [told] = json.loads((root / "jobs" / ended["Flow"].id / "proc.json").read_text())
    assert told["ror"]["count"]["value"] == 3
    shown = cli(root, "processors", "list", *listing)
    assert "cannot be used: /etc/holoscan/app.json" in shown


def test_a_manifest_that_is_no_file_of_a_size_to_read_is_told(one: Podman, root: Path) -> None:
    drop(root, "Huge", image=package(one, "map/huge:1", json.dumps({**NEW_APP, "x": "x" * (1 << 20)})))
    drop(root, "Half", image=package(one, "map/half:1", {**NEW_APP, "command": "half \ud800"}))
    drop(root, "Folder", image=one.image("map/folder:1", {"etc/holoscan/app.json/x": "x"}, 'CMD ["/bin/true"]'))
    drop(root, "Declared", image=one.image("map/none:1", {}, 'CMD ["/bin/true"]'), convention="monai")
    listing = ("--processors", str(root / "processors"))
    said = cli(root, "processors", "check", *listing, code=1, engine=one.words)
    assert "PROBLEM  Huge: /etc/holoscan/app.json is no file of at most 1 MiB" in said
    assert "PROBLEM  Folder: /etc/holoscan/app.json is no file of at most 1 MiB" in said
    assert "PROBLEM  Half: /etc/holoscan/app.json cannot be read: 'utf-8' codec can't encode" in said
    assert "PROBLEM  Declared: the image has no /etc/holoscan/app.json" in said


def test_a_package_is_tried_without_a_box(one: Podman, root: Path, tmp_path: Path) -> None:
    drop(root, "Tried", image=package(one, "map/tried:1", NEW_APP, NEW_PKG), environment={"SET": "by processor.json"})
    study(tmp_path / "study", 2)
    listing = ("--processors", str(root / "processors"))
    told = cli(root, "processors", "run", "Tried", str(tmp_path / "study"), *listing, "--json", engine=one.words)
    report: dict[str, Any] = json.loads(told)
    assert (report["outcome"], len(report["output"])) == ("success", 3)
    assert "600 s" in report["held_by"]
    assert "memory 512 MB" in report["held_by"]


def run_of(root: Path, job: str) -> dict[str, Any]:
    return dict(json.loads(JobFolder(root / "jobs" / job).attempt(1).run.read_text()))


@pytest.mark.kill
def test_a_package_that_outlives_the_box_is_taken_up_with_its_folders(one: Podman, root: Path, tmp_path: Path) -> None:
    """Where INPUT and OUTPUT are in it is known from the image that was pinned."""
    slow = 'echo up; sleep 4; ln -s "$HOLOSCAN_INPUT_PATH"/$(ls "$HOLOSCAN_INPUT_PATH") "$HOLOSCAN_OUTPUT_PATH"/linked'
    app = {**NEW_APP, "command": slow, "input": {"path": "in"}, "output": {"path": "/results"}, "timeout": 50}
    drop(root, "Slow", image=package(one, "map/slow:1", app, NEW_PKG))
    set_up(root, 1)

    def log() -> str:
        return "".join(path.read_text() for path in root.glob("jobs/*/processing.log"))

    with running(root, settings={"container_engine": one.words}) as box:
        assert box.port is not None
        assert send(box.port, study(tmp_path / "one", 1), "Slow").unanswered == set()
        until(lambda: "up" in log(), what="the container")
        box.kill()
    with running(root, settings={"container_engine": one.words}):
        until(lambda: bool(all_jobs(root)[0].outcome), what="the end")
    [job] = all_jobs(root)
    assert (job.outcome, job.attempt, job.message) == ("success", 1, "")
    linked = root / "jobs" / job.id / "OUTPUT" / "linked"
    assert linked.is_file()
    assert not linked.is_symlink()
    assert run_of(root, job.id)["timeout"] == 50.0

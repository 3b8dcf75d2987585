"""Packages of MONAI and workflows of ror: what they say of themselves, good and bad, and as scripts; no containers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conventions import go, prepare

from magickbox.convention import Image
from magickbox.conventions import CONVENTIONS
from magickbox.dropins.folder import Dropins
from magickbox.dropins.monai_package import Package, read_package
from magickbox.dropins.pins import Pin, adorn, convention_of, read_pins, why_not, write_pins
from magickbox.engine import Run
from magickbox.engines.limits import Limits, limits_of
from magickbox.processor import Processor

# As the specification's tables have them: version 1.0, and the keys of 0.1 as that version's packager wrote them.
APP: dict[str, Any] = {
    "apiVersion": "1.0.0",
    "command": "python3 -u /opt/holoscan/app/app.py",
    "environment": {"HOLOSCAN_APPLICATION": "/opt/holoscan/app", "OWN": "yes"},
    "input": {"path": "input", "formats": [{"data": "file"}]},
    "output": {"path": "output", "format": {}},
    "readiness": None,
    "liveness": None,
    "sdk": "monai-deploy",
    "sdkVersion": "1.0.0",
    "timeout": 600,
    "version": "2.1",
    "workingDirectory": "/var/holoscan",
}
PKG: dict[str, Any] = {
    "apiVersion": "1.0.0",
    "applicationRoot": "/opt/holoscan/app",
    "modelRoot": "/opt/holoscan/models",
    "models": {"seg": "/opt/holoscan/models/seg"},
    "resources": {"cpu": 1, "cpuLimit": 2.5, "gpu": 1, "memory": "1Gi", "memoryLimit": "1.5Gi", "sharedMemory": "64Mi"},
    "version": "2.1",
}
OLD_APP: dict[str, Any] = {
    "api-version": "0.1.0",
    "sdk-version": "0.5.1",
    "command": "python3 -u /opt/monai/app/app.py",
    "environment": {},
    "working-directory": "/var/monai",
    "input": {"path": "in/put", "formats": []},
    "output": {"path": "/var/results", "format": {}},
    "version": "0.0.0",
    "timeout": 0,
}
OLD_PKG: dict[str, Any] = {"api-version": "0.1.0", "models": [], "resources": {"cpu": 1, "gpu": 0, "memory": "8Gi"}}
ONE = Processor("P", Path("/p"), (), "P", image="x")


def manifests(app: Any, pkg: Any = None, place: str = "/etc/holoscan") -> dict[str, Any]:
    return {f"{place}/app.json": app, **({f"{place}/pkg.json": pkg} if pkg is not None else {})}


def test_a_package_of_version_1() -> None:
    package = read_package(manifests(APP, PKG))
    assert package == Package(
        command="python3 -u /opt/holoscan/app/app.py",
        workdir="/var/holoscan",
        input="/var/holoscan/input",
        output="/var/holoscan/output",
        models="/opt/holoscan/models",
        environment=(("HOLOSCAN_APPLICATION", "/opt/holoscan/app"), ("OWN", "yes")),
        timeout=600.0,
        resources=(("cpus", 2.5), ("gpus", 1), ("memory", "1610612736"), ("memory_needed", "1073741824")),
        shared_memory=64 << 20,
        version="2.1",
    )


def test_a_package_of_version_0_1() -> None:
    package = read_package(manifests(OLD_APP, OLD_PKG, "/etc/monai"))
    assert isinstance(package, Package)
    assert (package.workdir, package.input, package.output) == ("/var/monai", "/var/monai/in/put", "/var/results")
    assert (package.timeout, package.shared_memory, package.is_old) == (None, None, True)
    assert package.resources == (("memory_needed", str(8 << 30)),)


def test_only_what_is_required_gets_the_defaults_of_the_specification() -> None:
    package = read_package(manifests({"command": "/run"}))
    assert package == Package(
        "/run", "/var/holoscan", "/var/holoscan/input", "/var/holoscan/output", "/opt/holoscan/models"
    )


def test_the_newer_manifest_counts() -> None:
    both = manifests(OLD_APP, OLD_PKG, "/etc/monai") | manifests(APP, PKG)
    assert read_package(both) == read_package(manifests(APP, PKG))


def app(**changed: Any) -> dict[str, Any]:
    return manifests({**APP, **changed}, PKG)


def pkg(**changed: Any) -> dict[str, Any]:
    return manifests(APP, {**PKG, "resources": changed})


WRONG = {
    "no such file": ({}, "the image has no /etc/holoscan/app.json, so it is no MONAI application package"),
    "broken": (manifests("/etc/holoscan/app.json cannot be read: Expecting"), "/etc/holoscan/app.json cannot be read"),
    "broken pkg": (manifests(APP, "/etc/holoscan/pkg.json is no"), "/etc/holoscan/pkg.json is no"),
    "no command": (manifests({}), "/etc/holoscan/app.json: command is missing"),
    "no command, old": (manifests({}, None, "/etc/monai"), "/etc/monai/app.json: command is missing"),
    "empty command": (app(command="  "), "app.json: command is no shell command"),
    "a list as command": (app(command=["/run"]), "app.json: command is no shell command"),
    "NUL in the command": (app(command="/run\0"), "app.json: command is no shell command"),
    "a huge command": (app(command="x" * 200_000), "app.json: command is no shell command"),
    "a service": (app(type="service"), "app.json: type is service"),
    "negative timeout": (app(timeout=-1), "app.json: timeout is no number of seconds"),
    "text as timeout": (app(timeout="10"), "app.json: timeout is no number of seconds"),
    "true as timeout": (app(timeout=True), "app.json: timeout is no number of seconds"),
    "endless timeout": (app(timeout=1e300), "app.json: timeout is no number of seconds"),
    "more than a float": (app(timeout=10**400), "app.json: timeout is no number of seconds"),
    "not a number": (app(timeout=float("nan")), "app.json: timeout is no number of seconds"),
    "list as environment": (app(environment=["A=1"]), "app.json: environment is no object"),
    "odd variable": (app(environment={"A B": "1"}), "app.json: environment has 'A B', which is no name"),
    "the box's variable": (app(environment={"MAGICKBOX_JOB": "1"}), "which is no name of a variable"),
    "object as value": (app(environment={"A": {}}), "app.json: environment.A is no text"),
    "text as input": (app(input="input"), "app.json: input is no object"),
    "number as path": (app(input={"path": 5}), "app.json: input.path is no path"),
    "empty path": (app(output={"path": " "}), "app.json: output.path is no path"),
    "control characters": (app(output={"path": "a\nb"}), "app.json: output.path is no path"),
    "the root": (app(input={"path": "/"}), "app.json: input.path (/) cannot be a folder of its own"),
    "dots to the root": (app(input={"path": "../../.."}), "app.json: input.path (/) cannot be"),
    "of the system": (app(output={"path": "/proc/self"}), "app.json: output.path (/proc/self) cannot be"),
    "the box's own": (app(output={"path": "/processor"}), "app.json: output.path (/processor) cannot be"),
    "one in the other": (app(output={"path": "input/out"}), "must not lie in each other"),
    "the same": (app(output={"path": "input"}), "must not lie in each other"),
    "list as resources": (manifests(APP, {"resources": []}), "pkg.json: resources is no object"),
    "text as cpu": (pkg(cpu="two"), "pkg.json: resources.cpu is no number"),
    "negative cpu": (pkg(cpuLimit=-1), "pkg.json: resources.cpuLimit is no number"),
    "more cpus than a float": (pkg(cpuLimit=10**400), "pkg.json: resources.cpuLimit is no number"),
    "endless gpu": (pkg(gpu=float("inf")), "pkg.json: resources.gpu is no number"),
    "number as memory": (pkg(memory=1024), 'pkg.json: resources.memory is no size such as "1.5Gi"'),
    "words as memory": (pkg(memoryLimit="much"), "pkg.json: resources.memoryLimit is no size"),
    "no memory": (pkg(memory="0Gi"), "pkg.json: resources.memory is no size"),
    "all memory": (pkg(sharedMemory="99999999999Ti"), "pkg.json: resources.sharedMemory is no size"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_told_and_its_jobs_wait(case: str) -> None:
    found, told = WRONG[case]
    said = read_package(found)
    assert isinstance(said, str)
    assert told in said
    one = replace(ONE, convention="monai")
    pins = {"P": Pin("x", Image("x", "id", manifests=found))}
    assert why_not(one, pins) == f"the image x of processor P cannot be used: {said}"
    assert adorn(Dropins(good=(one,)), pins).good == (one,)
    CONVENTIONS["monai"].stage(Run("n", "j", 1, one, Path("/w"), Path("/w/log"), 1.0), Image("x", "id"))


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner))
KEYS = st.sampled_from(
    ["command", "environment", "input", "output", "timeout", "workingDirectory", "type", "resources"]
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, JSON | st.dictionaries(st.sampled_from(["path", "cpu", "memory", "A"]), JSON)))
def test_any_json_is_a_package_or_a_sentence(value: dict[str, Any]) -> None:
    found = read_package(manifests({"command": "/run", **value}, value))
    assert isinstance(found, Package | str)


@pytest.mark.parametrize(("said", "size"), [("2048Mi", 2 << 30), ("1.5GiB", 3 << 29), ("0.5Gi", 1 << 29), ("7", 7)])
def test_sizes(said: str, size: int) -> None:
    package = read_package(pkg(memoryLimit=said))
    assert isinstance(package, Package)
    assert dict(package.resources)["memory"] == str(size)


def test_what_a_package_says_counts_where_processor_json_says_nothing() -> None:
    pins = {"P": Pin("x", Image("x", "id", manifests=manifests(APP, PKG)))}
    [one] = adorn(Dropins(good=(ONE,)), pins).good
    assert (one.timeout, one.version, dict(one.resources)["cpus"]) == (600.0, "2.1", 2.5)
    own = replace(
        ONE, timeout=5.0, version="7", resources=(("memory", "2G"),), declared=frozenset({"timeout", "version"})
    )
    [one] = adorn(Dropins(good=(own,)), pins).good
    assert (one.timeout, one.version) == (5.0, "7")
    assert (dict(one.resources)["memory"], dict(one.resources)["cpus"]) == ("2G", 2.5)


def test_what_is_needed_is_no_limit_but_never_less_than_it() -> None:
    pins = {"P": Pin("x", Image("x", "id", manifests=manifests(OLD_APP, OLD_PKG, "/etc/monai")))}
    [one] = adorn(Dropins(good=(ONE,)), pins).good
    assert limits_of(one, Limits(memory=1 << 30)).memory == 8 << 30
    assert limits_of(one, Limits(memory=64 << 30)).memory == 64 << 30
    assert limits_of(one, Limits()).memory is None


def test_which_convention_an_image_certainly_has() -> None:
    package, ror = Image("x", "1", manifests=manifests(APP)), Image("x", "1", labels=(("com.ror.vendor", "MMIV.no"),))
    assert (convention_of(ONE, package), convention_of(ONE, ror)) == ("monai", "ror")
    assert convention_of(ONE, Image("x", "1", manifests=manifests("broken"))) == "monai"
    assert convention_of(replace(ONE, convention="magickbox"), package) == "magickbox"
    assert convention_of(ONE, replace(ror, labels=(*ror.labels, ("io.magickbox.convention", "mercure")))) == "mercure"


def test_manifests_are_pinned(tmp_path: Path) -> None:
    image = Image("x", "id", manifests=manifests(APP, PKG), entrypoint=("/e",), variables=("PATH",), seen=1)
    write_pins(tmp_path / "images.json", {"P": Pin("x", image)})
    [pin] = read_pins(tmp_path / "images.json").values()
    assert pin.image == image
    assert pin.image.manifests == image.manifests


# --- a package's application as a script, while it is written ---------------------------------------------------------

SCRIPT = """#!/bin/sh
cp "$HOLOSCAN_INPUT_PATH"/*.dcm "$HOLOSCAN_OUTPUT_PATH"/
[ "$MONAI_INPUTPATH" = "$1" ] && [ "$MONAI_OUTPUTPATH" = "$2" ] && [ "$HOLOSCAN_WORKDIR" = "$PWD" ] || exit 1
ls "$HOLOSCAN_MODEL_PATH"
"""


def test_an_application_as_a_script(tmp_path: Path) -> None:
    (tmp_path / "models" / "seg").mkdir(parents=True)
    run = prepare(tmp_path, SCRIPT, {})
    ended = go(run, "monai")
    assert (ended.exit_code, ended.last_line) == (0, "seg")
    assert len(list(run.output.iterdir())) == 4


# --- ror --------------------------------------------------------------------------------------------------------------

# As ror's own templates have it: the first argument is the data folder, the second one the output folder.
ROR = """#!/usr/bin/env python3
import glob, json, os, sys
import pydicom
with open(os.path.join(sys.argv[1], "descr.json")) as f:
    description = json.load(f)[0]
files = [f for f in glob.glob(sys.argv[1] + "/input/*") if os.path.isfile(f) and "broken" not in f]
shown = glob.glob(sys.argv[1] + "/input_view_dicom_series/*/*/*/*")
assert sorted(map(os.path.realpath, files)) == sorted(map(os.path.realpath, shown)), shown
for number, path in enumerate(files):
    image = pydicom.dcmread(path)
    image.save_as(sys.argv[2] + f"/{number}.dcm")
description["options"] = json.loads(os.environ["ROR_CONT_OPTIONS"])
description["shape_x"] = {"record_id": description["PatientID"], "event_name": "", "field_name": "x", "value": 128}
with open(sys.argv[2] + "/output.json", "w") as outfile:
    outfile.write(json.dumps(description, indent=4, sort_keys=True))
"""


def of_ror(run: Run) -> Any:
    return json.loads((run.workdir / "proc.json").read_text())


def test_a_workflow_of_ror_as_a_script(tmp_path: Path) -> None:
    run = prepare(tmp_path, ROR, {"model-type": "unet"})
    ended = go(run, "ror")
    assert ended.exit_code == 0, run.log.read_text()
    assert len(list(run.output.glob("*.dcm"))) == 3
    [entry] = of_ror(run)
    assert (entry["success"], "message" in entry) == ("success", False)
    told = entry["ror"]
    assert (told["Modality"], told["PatientID"], told["NumFiles"]) == ("CT", "1CT1", 1)
    assert told["SeriesInstanceUID"] == "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322"
    assert told["options"] == {"model-type": "unet"}
    assert told["ProcessDataPath"] == str(run.input)
    assert (Path(told["InputViewDICOMSeriesPath"]) / "CT.dcm").resolve() == run.input / "input" / "CT.dcm"


def test_the_placeholders_of_a_call_string(tmp_path: Path) -> None:
    run = prepare(tmp_path, '#!/bin/sh\necho "$@"\n', {})
    words = ("{}", "{input}", "{output}", "{descr}", "{output_json}", "{other}", "a{}b")
    run = replace(run, processor=replace(run.processor, command=(*run.processor.command, *words)))
    source, target = run.input, run.output
    told = f"{source} {source}/input {target} {source}/descr.json {target}/output.json {{other}} a{source}b"
    assert go(run, "ror").exit_code == 0
    assert run.log.read_text() == f"{told} {source} {target}\n"
    assert not (run.workdir / "proc.json").exists(), "exit code and last line are enough"


def test_names_from_tags_do_not_lead_out_of_the_view(tmp_path: Path) -> None:
    run = prepare(tmp_path, "#!/bin/sh\n", {})
    image = pydicom.dcmread(run.input / "CT.dcm")
    image.PatientID, image.SeriesDescription, image.SeriesNumber = "../../../../etc", "a/b\\c\n" * 10, None
    image.save_as(run.input / "CT.dcm")
    assert go(run, "ror").exit_code == 0
    links = [path for path in run.input.rglob("*") if path.is_symlink()]
    assert len(links) == 3
    assert all(path.resolve().parent == (run.input / "input").resolve() for path in links)
    assert all(len(part) <= 64 for path in links for part in path.relative_to(run.input).parts)


ODD = {
    "no JSON": 'printf "{" > "$2/output.json"',
    "text": 'printf \'"x"\' > "$2/output.json"',
    "a link": 'ln -s /etc/passwd "$2/output.json"',
    "a folder": 'mkdir "$2/output.json"',
    "large": 'head -c 2000000 /dev/zero > "$2/output.json"',
    "large when told": 'python3 -c \'import json; print(json.dumps(["\\\\u0001" * 200000]))\' > "$2/output.json"',
    "not a number": 'printf \'{"a": NaN}\' > "$2/output.json"',
    "deep": 'python3 -c \'print("[" * 9999 + "]" * 9999)\' > "$2/output.json"',
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_output_json_is_told_and_no_reason_to_fail(tmp_path: Path, case: str) -> None:
    told = "output.json was passed over: it is no file of at most 1 MiB with a JSON object or list"
    run = prepare(tmp_path / "good", f"#!/bin/sh\n{ODD[case]}\n", {})
    assert go(run, "ror").exit_code == 0, run.log.read_text()
    assert of_ror(run) == [{"success": "success", "message": told}]
    run = prepare(tmp_path / "bad", f"#!/bin/sh\n{ODD[case]}\necho no memory\nexit 4\n", {})
    go(run, "ror")
    assert of_ror(run) == [{"success": "failed", "message": f"exit code 4: no memory. {told}"}]


def test_a_list_in_output_json_is_kept(tmp_path: Path) -> None:
    run = prepare(tmp_path, '#!/bin/sh\nprintf \'[{"field_name": "x"}]\' > "$2/output.json"\nexit 3\n', {})
    go(run, "ror")
    assert of_ror(run) == [{"success": "failed", "ror": [{"field_name": "x"}], "message": "exit code 3"}]

"""``processors check`` of containers: it starts one that does nothing, and finds what would keep a job waiting."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import Podman, podman

from magickbox.cli.main import main

IMAGE = "localhost/test/check:1"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    one = podman(tmp_path_factory.mktemp("podman"))
    one.image(IMAGE, {"work": "#!/bin/sh\ntouch /memory/ran\n"}, 'CMD ["/work"]')
    yield one
    one.close()


@pytest.fixture
def place(one: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTAINERS_CONF", str(one.place / "containers.conf"))
    monkeypatch.setenv("MAGICKBOX_CONTAINER_ENGINE", one.words)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "processors").mkdir()
    return tmp_path


def drop(place: Path, name: str, **declared: object) -> Path:
    folder = place / "processors" / name
    folder.mkdir()
    (folder / "processor.json").write_text(json.dumps({"image": IMAGE, **declared}))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def check(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["processors", "check", name])
    return code, capsys.readouterr().out.strip()


def test_one_that_can_be_started_and_leaves_nothing(
    one: Podman, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(place, "Good")
    assert check("Good", capsys) == (0, "ok       Good")
    assert one.ask("ps", "--all", "--quiet") == ""


def test_an_image_that_is_not_here_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop(place, "Away", image="localhost/none:1")
    code, told = check("Away", capsys)
    assert (code, told) == (
        0,
        "ok       Away: its image localhost/none:1 is not on this machine; a box has it pulled when it is on",
    )


def test_an_archive_with_another_image(one: Podman, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = drop(place, "Wrong", image="localhost/test/chek:1", image_archive="./image.tar")
    one.ask("save", "--quiet", "--output", str(folder / "image.tar"), IMAGE)
    said = f"image.tar holds another image: {IMAGE}; image in processor.json says localhost/test/chek:1"
    assert check("Wrong", capsys) == (1, f"PROBLEM  Wrong: {said}")
    (folder / "processor.json").write_text(json.dumps({"image": "test/check:1", "image_archive": "./image.tar"}))
    assert check("Wrong", capsys) == (0, "ok       Wrong"), "podman puts localhost/ before it by itself"
    (folder / "image.tar").write_bytes((folder / "image.tar").read_bytes()[:200_000])
    assert "image.tar is cut short" in check("Wrong", capsys)[1]
    (folder / "image.tar").write_bytes(b"no archive" * 1000)
    assert check("Wrong", capsys) == (1, "PROBLEM  Wrong: image.tar is no archive of an image")


def test_a_folder_that_its_user_cannot_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = drop(place, "Closed", command=["./run.sh"])
    assert check("Closed", capsys)[0] == 0
    folder.chmod(0o700)
    told = f"its folder cannot be read by the user of the container: chmod -R o+rX {folder}"
    assert check("Closed", capsys) == (1, f"PROBLEM  Closed: {told}")
    (folder / "processor.json").write_text(json.dumps({"image": IMAGE}))
    assert check("Closed", capsys) == (0, f"ok       Closed: {told}"), "it may need nothing of its folder"


def test_an_engine_that_starts_nothing_and_cards_that_are_not_there(
    one: Podman, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(place, "Cards", resources={"gpus": 1})
    code, told = check("Cards", capsys)
    assert code == 1
    assert told.startswith("PROBLEM  Cards: podman could not start it: ")
    assert "resources.gpus asks for graphics cards" in told
    monkeypatch.setenv("MAGICKBOX_CONTAINER_ENGINE", one.words.replace("runc", "/bin/false"))
    drop(place, "Any")
    assert "(setting container_engine: podman --root" in check("Any", capsys)[1]


def test_an_image_for_another_machine_or_with_nothing_to_start(
    one: Podman, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one.image("localhost/test/foreign:1", {}, 'CMD ["/work"]', architecture="arm64")
    drop(place, "Foreign", image="localhost/test/foreign:1")
    assert check("Foreign", capsys) == (1, "PROBLEM  Foreign: the image is for arm64 machines, this one is amd64")
    one.image("localhost/test/idle:1", {})
    drop(place, "Idle", image="localhost/test/idle:1")
    assert "starts nothing by itself" in check("Idle", capsys)[1]

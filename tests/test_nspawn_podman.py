"""Processors in containers of podman on the appliance, under its hardened unit, by what docs/install.md says."""

import json
import re
import tempfile
from pathlib import Path

import pytest
from containers import CONF, podman
from nspawnbox import FILES, ROOT, SLOW, booted, documented, pacs, skip_unless_possible
from peers import item_of, sample, wait_for

STEPS = '#!/bin/sh\nid -u\ngrep -E "CapEff|NoNewPrivs" /proc/self/status\ncp /input/* /output/\n'
pytestmark = pytest.mark.soak


def test_a_processor_in_a_container_needs_no_privileges(tmp_path: Path) -> None:
    skip_unless_possible()
    if not (FILES / "usr" / "bin" / "podman").exists():
        pytest.skip(f"{FILES} has no podman: vm/build --formats root --packages podman,runc,catatonit")
    image(tmp_path / "image.tar")
    (tmp_path / "dropin").write_text(documented(r"processors in containers of the box's user \(podman\)"))
    (storage,) = re.findall(r"^```text\n(\[storage\]\n.*?)^```$", (ROOT / "docs/install.md").read_text(), re.M | re.S)
    (tmp_path / "storage.conf").write_text(storage)
    (tmp_path / "containers.conf").write_text(CONF)
    asks = json.dumps({"image": "localhost/copies:1", "image_archive": "./image.tar"})
    binds = {
        "image.tar": "/srv/processors/COPY/image.tar",
        "dropin": "/etc/systemd/system/magickbox.service.d/podman.conf",
        "storage.conf": "/etc/containers/storage.conf",
        "containers.conf": "/etc/containers/containers.conf",
    }
    options = [f"--bind-ro={tmp_path / name}:{place}" for name, place in binds.items()]
    options.append("--system-call-filter=@keyring bpf")  # what nspawn forbids, and a machine does not
    file, engine = sample("CT_small.dcm"), "podman --runtime runc"
    with (
        booted(tmp_path, {"COPY/processor.json": asks}, *options, CONTAINER_ENGINE=engine) as container,
        pacs(container, tmp_path / "arrived") as peer,
    ):
        container.send("COPY", file)
        wait_for(lambda: peer.arrived() == {item_of(file).sop_instance}, "the result", SLOW)
        said = container.inside("systemd-analyze", "--no-pager", "security", "magickbox.service", check=False)
    assert float(re.findall(r"Overall exposure level for magickbox.service: ([\d.]+)", said)[0]) <= 3.0
    (log,) = (tmp_path / "data" / "magickbox" / "jobs").glob("*/processing.log")
    assert log.read_text().split() == ["0", "CapEff:", "0" * 16, "NoNewPrivs:", "1"]


def image(archive: Path) -> None:
    """An archive of an image that copies, made by this machine's podman."""
    one = podman(Path(tempfile.mkdtemp(prefix="mb-")))  # podman takes no longer name than 50 letters
    try:
        one.image("localhost/copies:1", {"steps": STEPS}, 'ENTRYPOINT ["/steps"]')
        one.ask("save", "--quiet", "--output", str(archive), "localhost/copies:1")
    finally:
        one.close()

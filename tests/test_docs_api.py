"""The programs of docs/api.md work as they stand there."""

from pathlib import Path
from typing import Any

import numpy as np
import peers
import pydicom
from boxprocess import all_jobs, until
from studies import study
from test_docs import ROOT, blocks
from webbox import NAMES, serving

from magickbox.web.accounts import accounts_of, open_store
from magickbox.web.principal import Role


def program(n: int) -> dict[str, Any]:
    """What the n-th program of the chapter defines."""
    defined: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "api.md", "python")[n], defined)
    return defined


def test_files_are_uploaded_and_a_frames_values_are_read(tmp_path: Path) -> None:
    values_of, upload = program(0)["values_of"], program(1)["upload"]
    with serving(tmp_path / "data") as box:
        store = open_store(box.root / "state")
        _, token = accounts_of(store).tokens.make(NAMES[Role.OPERATOR], "test", "operate")
        store.close()
        ct = peers.sample("CT_small.dcm")
        found = upload(box.address, token, "Proc", [ct, study(tmp_path / "mr", 1)[0].path, Path(__file__)])
        assert (found["stored"], found["skipped"]) == (2, 1)
        until(lambda: len(all_jobs(box.root)) == 2, what="the jobs")
        ds = pydicom.dcmread(ct)
        (job,) = [job.id for job in all_jobs(box.root) if job.study == ds.StudyInstanceUID]
        client = box.client()
        client.headers["Authorization"] = f"Bearer {token}"
        at = f"/api/v1/jobs/{job}/input/instances/{ds.SOPInstanceUID}/frames/1/values"
        values = values_of(client.get(at).content)
        assert (values == ds.pixel_array * np.float64(ds.RescaleSlope) + np.float64(ds.RescaleIntercept)).all()

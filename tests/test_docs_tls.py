"""The TLS chapter of docs/operations.md is true: its commands make files that its settings and DCMTK take."""

import os
import shutil
import subprocess
from pathlib import Path

import peers
import pytest
from callers import open_port
from test_docs import OPERATIONS, blocks

from magickbox.config import load
from magickbox.tls import try_out
from magickbox.tlsfiles import tls_files

HOST = "magickbox.example.org"


def openssl() -> None:
    """Without it skip, but fail in CI."""
    if shutil.which("openssl") is None and os.environ.get("CI", "").casefold() == "true":
        pytest.fail("openssl is not installed, and CI has to have it")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")


@pytest.mark.peer
def test_the_commands_make_what_the_settings_take(tmp_path: Path) -> None:
    openssl()
    data = tmp_path / "data"
    data.mkdir()
    script = "set -e\n" + "".join(blocks(OPERATIONS, "sh tls")).replace("/srv/magickbox", str(data))
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    (text,) = blocks(OPERATIONS, "toml tls")
    (data / "magickbox.toml").write_text(text, encoding="utf-8")
    settings = load(data / "magickbox.toml", {}, {}).settings
    files = tls_files(settings, data)
    assert files is not None
    found = try_out(files)
    assert (found.problems, found.notes) == ((), ())
    assert f"box.pem: {HOST}, valid until 20" in found.summary
    (command,) = blocks(OPERATIONS, "sh dcmtk")
    (tmp_path / "port").mkdir()
    with open_port(tmp_path / "port", tls=files) as port:
        address = port.receiver.tls_address
        assert address is not None
        given = {"echoscu": peers.dcmtk("echoscu"), HOST: "127.0.0.1", str(settings.tls_port): str(address[1])}
        words = [given.get(word, word) for word in command.split()]
        heard = subprocess.run(words, cwd=data / "tls", capture_output=True, text=True, timeout=60, check=False)
        assert heard.returncode == 0, heard.stderr
        assert port.intake.requests[0].certificate == "CT1"


def test_every_line_of_the_table_is_one_of_the_box() -> None:
    chapter = OPERATIONS.read_text(encoding="utf-8").partition("\n## TLS\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1].strip() for row in chapter.splitlines() if row.startswith("| ")][1:]
    scp = Path(__file__).parent.parent / "magickbox" / "scp"
    code = "".join(path.read_text(encoding="utf-8") for path in scp.glob("*.py"))
    code += "the peer's certificate "
    for row in rows:
        said = row.split(", ")[0].removeprefix("the peer's certificate ").replace("after 30 s", "after")
        assert said in code, row
    assert len(rows) > 8

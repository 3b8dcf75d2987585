"""What stands before the app: host names, body limits, headers, TLS, errors that say nothing they should not."""

import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from boxprocess import until
from pki import authority
from webbox import Desk, Serving, desk, serving

from magickbox.cli.main import main
from magickbox.web.principal import Role
from magickbox.web.shield import BODY, is_known, known_hosts


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("box") / "data", web_names="box.example.org") as found:
        yield found


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8080", True), ("[::1]:8080", True), ("10.0.0.5", True), ("localhost:1", True),
        (f"{socket.gethostname()}:8080", True), ("BOX.example.org:8080", True), ("box.example.org.", True),
        ("evil.example", False), ("", False), ("[", False), ("127.0.0.1.evil.example", False), ("a@127.0.0.1", False),
    ],
)  # fmt: skip
def test_only_its_own_names_are_answered(office: Desk, host: str, known: bool) -> None:
    assert is_known(host, known_hosts(["box.example.org"])) == known
    answer = office.client().get("/healthz", headers={"Host": host})
    assert answer.status_code == (200 if known else 421)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_body_that_is_too_long_is_not_read(office: Desk) -> None:
    client = office.client(raising=False)
    announced = client.post("/login", content=b"x" * (BODY + 1))
    assert announced.status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=pieces(), headers=form).status_code == 413  # one that does not say how long


def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline(office: Desk) -> None:
    page = office.client(Role.ADMIN).get("/users").text
    assert "<script>" not in page
    assert "<style" not in page
    assert "style=" not in page
    assert "onclick" not in page
    for part in page.split('src="')[1:] + page.split('rel="stylesheet" href="')[1:]:
        assert part.startswith("/static/")


def test_files_are_kept_for_long_and_packed(office: Desk) -> None:
    client = office.client(Role.VIEWER)
    page = client.get("/account").text
    url = page.split('rel="stylesheet" href="')[1].split('"')[0]
    answer = client.get(url)
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    old = client.get("/static/000000000000/app.css", headers={"Accept-Encoding": "identity"})
    assert old.headers["Cache-Control"] == "no-cache"
    assert old.content == answer.content
    for path in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "nothing.css", "/etc/passwd"):
        assert client.get(f"/static/x/{path}").status_code == 404
    assert client.get("/favicon.ico").headers["Content-Type"] == "image/svg+xml"
    assert client.get("/account").headers["Cache-Control"] == "no-store"


def test_errors_are_problems_to_programs_and_pages_to_people(office: Desk) -> None:
    client = office.client(Role.ADMIN)
    missing = client.get("/api/v1/no-such-thing")
    assert missing.status_code == 404
    assert missing.headers["Content-Type"] == "application/problem+json"
    assert missing.json() == {"type": "about:blank", "title": "Not Found", "status": 404}
    page = client.get("/no-such-page")
    assert page.status_code == 404
    assert "<h1>Not Found</h1>" in page.text
    wrong = client.post("/api/v1/users", json={"name": 7, "role": "a secret"})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["where"] == ["body", "name"]
    assert "a secret" not in wrong.text  # what was given is not told back: it may be a password
    assert client.request("PATCH", "/api/v1/users").status_code == 405
    line = client.post("/users", data={"csrf": "x"}, headers={"HX-Request": "true", "X-CSRF-Token": "x"})
    assert line.text.startswith('<p class="problem"')


def test_a_fault_of_the_window_shows_nothing_of_itself(office: Desk, tmp_path: Path) -> None:
    office.context.store.close()  # what nobody expects
    client = office.client(raising=False)
    answer = client.get("/login")
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert "sqlite" not in answer.text.casefold()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pki")
    files = folder / "window.pem", folder / "window-key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-out", str(files[0]), "-keyout", str(files[1])], check=True, capture_output=True)
    return files


@pytest.fixture(scope="module")
def secure(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("box") / "data"
    with serving(root, "--web-certificate", str(certificate[0]), "--web-key", str(certificate[1])) as box:
        yield box


def test_with_a_certificate_it_is_https(secure: Serving, certificate: tuple[Path, Path]) -> None:
    assert secure.address.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with httpx.Client(base_url=secure.address, verify=trusting) as client:
        answer = client.post("/login", data={"name": "vera", "password": "right horse battery"})
        assert answer.status_code == 303
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-magickbox-")
        assert "secure" in cookie.casefold()
        assert "max-age=" in client.get("/healthz").headers["Strict-Transport-Security"]
        assert client.get("/api/v1/me").json()["name"] == "vera"


def test_old_tls_and_plain_text_get_nothing(secure: Serving) -> None:
    port = int(secure.address.rpartition(":")[2])
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/healthz")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(OSError):
        old.wrap_socket(raw)
    assert secure.client().get("/healthz").status_code == 200


def test_a_certificate_that_cannot_be_used_is_told_by_check_and_stops_no_box(
    tmp_path: Path, certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    (data / "processors").mkdir(parents=True)
    words = ["--web-certificate", str(certificate[0]), "--web-key", str(certificate[0])]
    assert main(["check", "--data", str(data), "--processors", str(data / "processors"), *words, "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem.startswith("window: web_key: ")
    assert main(["check", "--data", str(data), "--processors", str(data / "processors"), *words[:2], "--json"]) == 1
    assert "both or neither" in capsys.readouterr().out
    with serving(data, *words, window=False) as box:
        assert box.port > 0


def test_check_tells_that_the_port_of_the_window_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "processors").mkdir()
    common = ["check", "--data", str(tmp_path), "--processors", str(tmp_path / "processors"), "--json"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main([*common, "--web-port", str(other.getsockname()[1])]) == 1
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert problem.startswith("window: cannot listen on 127.0.0.1:")
        assert main([*common, "--web-port", str(other.getsockname()[1]), "--web", "false"]) == 0


def test_a_renewed_certificate_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    ca = authority(tmp_path / "pki")
    used, later, last = (ca.issue(name) for name in ("one", "two", "three"))
    trusting = ssl.create_default_context(cafile=str(ca.pem))

    def serial(name: str | None = None) -> int:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            trusting.check_hostname = name is not None
            with trusting.wrap_socket(raw, server_hostname=name) as peer:
                return int(str((peer.getpeercert() or {})["serialNumber"]), 16)

    def renew(key: Path, pem: Path) -> None:
        shutil.copy(key, used.key)
        shutil.copy(pem, used.pem)

    log = tmp_path / "data/logs/window.log"
    with serving(tmp_path / "data", "--web-certificate", str(used.pem), "--web-key", str(used.key)) as box:
        port = int(box.address.rpartition(":")[2])
        kept = box.client(Role.VIEWER)
        assert serial() == used.certificate.serial_number
        renew(later.key, later.pem)
        until(lambda: serial() == later.certificate.serial_number, what="the new certificate")
        assert serial("localhost") == later.certificate.serial_number
        told = "cannot be used, the last good ones stay: web_certificate"
        used.pem.write_text("half a certifi")
        until(
            lambda: serial() > 0 and told in text(log),
            what="told",
        )
        assert serial() == later.certificate.serial_number
        renew(last.key, last.pem)
        until(lambda: serial() == last.certificate.serial_number, what="the third certificate")
        assert kept.get("/api/v1/me").json()["name"] == "vera"
    assert len(re.findall(r"the files of TLS were read again: .*one\.pem: (two|three),", text(log))) == 2


def text(path: Path) -> str:
    """What is in a file, nothing if there is none."""
    return path.read_text() if path.exists() else ""

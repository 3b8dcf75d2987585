"""DICOMweb servers to send to: Orthanc with its plugin as a real one, and a scripted one that does as a test asks."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import peers
import pytest
from peers import ScriptedPeer, Talk
from pki import Pair

from magickbox.destination import StowDestination

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Request:
    """What the scripted server was sent."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def dicom(self) -> bytes:
        """The one part of the body."""
        boundary = b"--" + self.headers["content-type"].partition("boundary=")[2].encode()
        _, part, end = self.body.split(boundary)
        assert end == b"--\r\n"
        head, _, content = part.partition(b"\r\n\r\n")
        assert head == b"\r\nContent-Type: application/dicom"
        return content.removesuffix(b"\r\n")


def read_head(talk: Talk) -> tuple[str, dict[str, str]]:
    """The request line and the headers; raises EOFError."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += talk.read(1)
    line, *lines = head.decode().strip().split("\r\n")
    return line, {name.lower(): text for name, _, text in (each.partition(": ") for each in lines)}


def read_request(talk: Talk) -> Request:
    """A whole request; raises EOFError."""
    line, headers = read_head(talk)
    return Request(line, headers, talk.read(int(headers["content-length"])))


def reply(talk: Talk, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer with a status and a body."""
    fields = {"Content-Length": str(len(body)), **{name.replace("_", "-"): text for name, text in headers.items()}}
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {text}" for name, text in fields.items() if text), "", ""]
    talk.sock.sendall("\r\n".join(lines).encode() + body)


def response(
    *uids: str, failed: Mapping[str, int | None] | None = None, warned: Mapping[str, int] | None = None
) -> bytes:
    """A Store Instances Response in JSON."""

    def item(uid: str, tag: str, code: int | None) -> dict[str, Any]:
        reason = {} if code is None else {tag: {"vr": "US", "Value": [code]}}
        return {"00081155": {"vr": "UI", "Value": [uid]}, **reason}

    told: dict[str, Any] = {"00081190": {"vr": "UR", "Value": ["http://x"]}}
    if failed:
        told["00081198"] = {"vr": "SQ", "Value": [item(uid, "00081197", code) for uid, code in failed.items()]}
    stored = [item(uid, "", None) for uid in uids]
    stored += [item(uid, "00081196", code) for uid, code in (warned or {}).items()]
    if stored:
        told["00081199"] = {"vr": "SQ", "Value": stored}
    return json.dumps(told).encode()


def uid_in(request: Request, folder: Path) -> str:
    """The SOP Instance UID of what was sent."""
    path = folder / "request.dcm"
    path.write_bytes(request.dicom)
    return peers.item_of(path).sop_instance


def take_all(folder: Path) -> Callable[[Talk], None]:
    """A script that stores everything, for as long as the connection lasts."""

    def script(talk: Talk) -> None:
        while True:
            request = read_request(talk)
            reply(talk, 200, response(uid_in(request, folder)))

    return script


def at(peer: ScriptedPeer, **more: Any) -> StowDestination:
    """How to call a scripted server."""
    return StowDestination(f"http://127.0.0.1:{peer.port}/dicom-web", "web", **more)


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: where its DICOMweb is, and what it has."""

    url: str
    user: str
    password: str
    ask: Callable[[str], Any]
    dicom_port: int = 0

    def stored(self) -> set[str]:
        """The SOP Instance UIDs that it has."""
        return {self.ask(f"/instances/{each}/simplified-tags")["SOPInstanceUID"] for each in self.ask("/instances")}


@contextmanager
def orthanc(
    folder: Path, reports_to: Mapping[str, int] | None = None, tls: tuple[Pair, Path] | None = None
) -> Iterator[Orthanc]:
    """An Orthanc that wants a user and password; ended by its own id.

    With ``reports_to`` it has a DICOM port, and knows peers by their AE titles and ports, to which it may report; with
    ``tls``, its own certificate and whom it trusts, all of that is over TLS with a certificate on both sides.
    """
    program = _program("Orthanc")
    if not PLUGIN.exists():
        _absent("orthanc-dicomweb")
    folder.mkdir()
    port = peers.free_port()
    settings: dict[str, Any] = {
        "Name": "test", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "index"),
        "HttpPort": port, "RemoteAccessAllowed": False, "DicomServerEnabled": False, "Plugins": [str(PLUGIN)],
        "AuthenticationEnabled": True, "RegisteredUsers": {"box": "s3cret"}, "DicomWeb": {"Enable": True},
        "HttpVerbose": False,
    }  # fmt: skip
    dicom_port = peers.free_port() if reports_to else 0
    if reports_to:
        known = {title.lower(): [title, "127.0.0.1", number] for title, number in reports_to.items()}
        settings |= {"DicomServerEnabled": True, "DicomPort": dicom_port, "DicomAet": "ORTHANC",
                     "DicomModalities": known}  # fmt: skip
    if tls:
        own, ca = tls
        settings |= {"DicomTlsEnabled": True, "DicomTlsCertificate": str(own.pem), "DicomTlsPrivateKey": str(own.key),
                     "DicomTlsTrustedCertificates": str(ca), "DicomTlsRemoteCertificateRequired": True}  # fmt: skip
        settings["DicomModalities"] = {
            key: {"AET": title, "Host": host, "Port": number, "UseDicomTls": True}
            for key, (title, host, number) in settings["DicomModalities"].items()
        }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)

    def ask(path: str) -> Any:
        request = UrlRequest(f"http://127.0.0.1:{port}{path}", headers={"Authorization": "Basic Ym94OnMzY3JldA=="})
        with urlopen(request, timeout=5) as got:
            return json.load(got)

    try:
        peers.wait_for(lambda: process.poll() is not None or peers.is_listening(port), "Orthanc to listen", 30)
        assert process.poll() is None, (folder / "log").read_text()
        yield Orthanc(f"http://127.0.0.1:{port}/dicom-web", "box", "s3cret", ask, dicom_port)
    finally:
        process.kill()  # asked to end it takes 2.5 s, and what it has stored goes with the test
        process.wait()


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return found or _absent(name.lower())


def _absent(what: str) -> NoReturn:
    """Skip, but fail in CI."""
    if os.environ.get("CI", "").casefold() == "true":
        pytest.fail(f"{what} is not installed, and CI has to have it")
    pytest.skip(f"{what} is not installed")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()


@contextmanager
def nginx(folder: Path, backend: str, own: Pair, ca: Path) -> Iterator[str]:
    """An nginx with TLS in front of a server, which wants a client's certificate and takes at most 1 MB; its URL."""
    program, port = _program("nginx"), peers.free_port()
    folder.mkdir()
    host = backend.removeprefix("http://").partition("/")[0]
    paths = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off; {paths}
            server {{
                listen 127.0.0.1:{port} ssl; ssl_certificate {own.pem}; ssl_certificate_key {own.key};
                ssl_client_certificate {ca}; ssl_verify_client on; client_max_body_size 1m;
                location / {{ proxy_pass http://{host}; proxy_http_version 1.1; }}
            }}
        }}""")
    with (folder / "log").open("wb") as log:
        words = [program, "-p", str(folder), "-e", str(folder / "early.log"), "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        peers.wait_for(lambda: process.poll() is not None or peers.is_listening(port), "nginx to listen", 30)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"https://127.0.0.1:{port}/dicom-web"
    finally:
        _end(process)

"""Real containers for tests: podman with a storage of its own, and images made from nothing but a static busybox."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

CONF = """[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
events_logger = "file"
"""
BUSYBOX = "/bin/busybox"


def program(name: str) -> str:
    """A program of Debian's podman packages; without it skip, but fail in CI."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI", "").casefold() == "true":
        pytest.fail(f"{name} is not installed, and CI has to have it")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@dataclass(frozen=True)
class Podman:
    """A podman whose images and containers are in ``place`` only."""

    place: Path

    @property
    def words(self) -> str:
        """What the setting container_engine says."""
        return f"podman --root {self.place}/root --runroot {self.place}/run --storage-driver overlay --runtime runc"

    @property
    def environment(self) -> dict[str, str]:
        """What podman needs of ours, and its configuration."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "XDG_RUNTIME_DIR") if key in os.environ}
        return {**kept, "CONTAINERS_CONF": str(self.place / "containers.conf")}

    def ask(self, *arguments: str, check: bool = True) -> str:
        """Run one command and return what it printed."""
        done = subprocess.run(
            [*self.words.split(), *arguments], env=self.environment, capture_output=True, text=True, timeout=120,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def image(self, name: str, files: Mapping[str, str | bytes], *changes: str, architecture: str = "amd64") -> str:
        """An image with busybox and these files (all executable), by the import that buckets are made with."""
        archive = self.place / f"{name.replace('/', '_').replace(':', '_')}.tar"
        with tarfile.open(archive, "w") as tar:
            _add_busybox(tar)
            for path, content in files.items():
                _add(tar, path, content if isinstance(content, bytes) else content.encode())
        options = [part for change in ("ENV PATH=/bin", *changes) for part in ("--change", change)]
        self.ask("import", "--quiet", "--arch", architecture, *options, str(archive), name)
        archive.unlink()
        return name

    def close(self) -> None:
        """Remove everything, and what podman has mounted."""
        self.ask("rm", "--all", "--force", check=False)
        self.ask("rmi", "--all", "--force", check=False)
        for mounted in (self.place / "root" / "overlay", self.place / "root"):
            subprocess.run(["umount", str(mounted)], capture_output=True)
        shutil.rmtree(self.place, ignore_errors=True)


def _add_busybox(tar: tarfile.TarFile) -> None:
    for folder in ("bin", "root", "etc", "var", "tmp"):
        info = tarfile.TarInfo(folder)
        info.type, info.mode = tarfile.DIRTYPE, 0o700 if folder == "root" else 0o755
        tar.addfile(info)
    _add(tar, "bin/busybox", Path(program("busybox")).read_bytes())
    for applet in subprocess.run([program("busybox"), "--list"], capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
    _add(tar, "bin/bash", b'#!/bin/sh\nexec /bin/ash "$@"\n')


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    info = tarfile.TarInfo(path.lstrip("/"))
    info.size, info.mode = len(content), 0o755
    tar.addfile(info, io.BytesIO(content))


def podman(place: Path) -> Podman:
    """A podman for a session of tests; skip, or fail in CI, if the machine has none."""
    for name in ("podman", "runc", "busybox"):
        program(name)
    if os.geteuid() != 0:
        pytest.skip("these containers are root's: their limits, users and images are in question")
    (place / "containers.conf").write_text(CONF)
    one = Podman(place)
    one.ask("info")
    return one

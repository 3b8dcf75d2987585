"""The contract of a convention: for which system a processor was written, and what it therefore expects to find."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from magickbox.run import Ended, Run


@dataclass(frozen=True)
class Image:
    """What is known of a container image: ``id`` is what runs, ``digest`` what its registry calls it (may be empty).

    ``command`` is what it starts by itself. ``is_bucket`` says that it has the files of a MagickBox bucket; ``info`` is
    the bucket's own info.json, and ``info_problem`` why that could not be used. ``manifests`` are the files in which a
    package describes itself, by their paths in the image: the JSON object, or a sentence that says why it is none.
    ``variables`` are the names that the image sets itself. ``seen`` tells what of an image an older box knew.
    """

    name: str
    id: str
    digest: str = ""
    architecture: str = ""
    has_command: bool = True
    labels: tuple[tuple[str, str], ...] = ()
    is_bucket: bool = False
    info: dict[str, Any] = field(default_factory=dict, hash=False)
    command: tuple[str, ...] = ()
    info_problem: str = ""
    entrypoint: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    manifests: dict[str, Any] = field(default_factory=dict, hash=False)
    seen: int = 0


@dataclass(frozen=True)
class Stage:
    """What a container shows of a run: where INPUT, OUTPUT and the kept folder are, and what is started.

    ``command`` empty: the image's own, with ``arguments`` instead of those that it has. ``as_root``: only root can use
    the image; outside it has no rights. ``workdir`` is where it starts, ``scratch`` are folders that may be written
    (by podman only; with what the image has in them), ``shared_memory`` is bytes.
    """

    input: str
    output: str
    memory: str | None = None
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    as_root: bool = False
    arguments: tuple[str, ...] = ()
    workdir: str | None = None
    scratch: tuple[str, ...] = ()
    shared_memory: int | None = None


class Convention(Protocol):
    """How a run looks to the processor. Each is one small module; see docs/processors.md."""

    def lay_out(self, run: Run) -> Run:
        """Make the run's INPUT what the processor expects, before an engine gets it; return the run to give to it.

        Only the run's own folder is touched. Raises OSError or UnreadableHeader.
        """

    def stage(self, run: Run, image: Image) -> Stage:
        """What the container of this run is to show."""

    def read_back(self, run: Run, ended: Ended) -> None:
        """Translate what the processor left into what the box reads (proc.json), after the run."""

"""The Slurm engine: a processor's run as a job of an existing cluster, over a folder that box and nodes share.

The script that Slurm starts leaves marks in the run's folder; they are the truth, and what Slurm says is a hint. Slurm
never requeues a job of the box: a run that was lost is made again as a new attempt, with a folder of its own, so two
scripts never have the same OUTPUT. A run goes on when the box stops, and is found again by its marks and its name.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.engine import Ended, Run
from magickbox.engines import slurm_end, slurm_order, slurm_request
from magickbox.engines.output_log import OutputLog
from magickbox.engines.slurm_client import Refused, SlurmClient
from magickbox.engines.slurm_container import NodeContainers
from magickbox.engines.slurm_marks import Marks
from magickbox.engines.slurm_order import Writer
from magickbox.engines.slurm_request import Place, place_of
from magickbox.engines.slurm_script import NodeSandbox
from magickbox.engines.slurm_verdict import Lost, Patience
from magickbox.engines.slurm_watch import Rhythm, Watch, Watched
from magickbox.errors import EngineDown, GoesOn
from magickbox.processor import Processor

AT_ONCE = 4  # sbatch calls: a controller has better things to do than to serve two hundred
HARDER = 10.0  # seconds beyond a run's grace until Slurm itself is told to end it
HARDEST = 90.0  # seconds from then until nobody waits for its end any more


@dataclass(frozen=True)
class ClusterSettings:
    """Where jobs go if their processor does not say, what shields them, and how patient the box is."""

    place: Place = field(default_factory=Place)
    sandbox: str = "auto"
    shows: tuple[Path, ...] = ()
    patience: Patience = field(default_factory=Patience)
    rhythm: Rhythm = field(default_factory=Rhythm)


class SlurmEngine:
    """Runs processors as jobs of a cluster; implements ``engine.Engine``."""

    def __init__(
        self,
        client: SlurmClient,
        environment: Mapping[str, str],
        box: Path,
        workdir_of: Callable[[str], Path],
        settings: ClusterSettings,
        tell: Callable[[str], None],
        containers: NodeContainers | None = None,
    ) -> None:
        """``environment`` is what every processor gets; ``box`` is the data folder, which the nodes see under the same
        path; ``workdir_of`` finds the folder of a run by its name; ``tell`` gets what a person should know."""
        self._client, self._workdir_of, self._settings = client, workdir_of, settings
        self._box = str(box.absolute())
        self._comment = f"magickbox-{hashlib.sha256(self._box.encode()).hexdigest()[:24]}"
        sandbox = NodeSandbox(settings.sandbox, box, settings.shows)
        self._writer = Writer(environment, self._box, sandbox, containers, settings.patience.beat)
        self._watch = Watch(client, self._comment, settings.patience, settings.rhythm, tell)
        self._submitting = threading.BoundedSemaphore(AT_ONCE)

    def refusal(self, processor: Processor) -> str | None:
        """Why a processor has to wait: no Slurm, or a partition or account that is not there."""
        if (name := self._client.missing()) is not None:
            return f"{name} is not installed on this machine (setting engine)"
        return self._writer.refusal(processor) or self._watch.doubted(str(self._place(processor)))

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        """Run to the end; see ``engine.Engine.run``."""
        watched = self._watch.enter(run, Marks(run.workdir))
        try:
            with contextlib.closing(OutputLog(run.log, run.log_limit)) as log:
                watched.log = log
                refused = self._writer.write(watched) or self._submitted(watched, started)
                return refused or self._attend(watched, log)
        finally:
            self._leave(watched)

    def rejoin(self, run: Run) -> Ended | None:
        """Wait for a run that went on without the box; see ``engine.Engine.rejoin``. Its log is brought over anew."""
        marks = Marks(run.workdir)
        if not marks.script.exists():
            return None
        watched = self._watch.enter(run, marks)
        try:
            with contextlib.suppress(OSError):
                os.truncate(run.log, run.log_begins)
            with contextlib.closing(OutputLog(run.log, run.log_limit)) as log:
                watched.log = log
                self._watch.watch(watched)
                return self._attend(watched, log)
        finally:
            self._leave(watched)

    def stop(self, name: str, reason: str) -> None:
        """End a run that another thread waits for; see ``engine.Engine.stop``."""
        watched = self._watch.of(name)
        if watched is not None:
            watched.stop = watched.stop or reason
            watched.ring()

    def leave(self, name: str) -> bool:
        """Let a run go on without the box: its ``run`` raises GoesOn; see ``engine.Engine.leave``."""
        watched = self._watch.of(name)
        if watched is not None:
            watched.left = True
            watched.ring()
        return True

    def watched(self, name: str) -> Watched | None:
        """What is known of a run that goes on."""
        return self._watch.of(name)

    def end_leftovers(self, name: str) -> int:
        """Make sure that a run is over, or never begins; its job is cancelled as soon as Slurm answers."""
        marks = Marks(self._workdir_of(name))
        if not marks.script.exists() or marks.end() is not None:
            return 0
        marks.withdraw()
        self._watch.unwanted(name)
        return 1

    def sweep(self, spared: Collection[str] = ()) -> int:
        """Cancel this box's jobs that no run of it knows, nor ``spared``; return how many there were."""
        try:
            rows = [row for row in self._client.queue(self._comment) if row.is_active]
            known = self._watch.names() | set(spared)  # asked for afterwards: a run is known before it is submitted
            found = [row for row in rows if row.name not in known]
            self._client.cancel([row.id for row in found])
        except EngineDown:
            return 0
        return len(found)

    def _leave(self, watched: Watched) -> None:
        with watched.lock:
            watched.log = None
        self._watch.leave(watched.run.name)
        if not watched.goes_on:
            self._writer.tidy(watched.run)

    def _place(self, processor: Processor) -> Place:
        return place_of(processor, self._settings.place)

    def _submitted(self, watched: Watched, started: Callable[[dict[str, object]], None]) -> Ended | None:
        """Give the job to Slurm, told before and after: in between it is found by its name."""
        run = watched.run
        place = self._place(run.processor)
        options = slurm_request.options(run, place, self._comment)
        handle = {"engine": "slurm", "slurm": run.name, "timeout": run.timeout, "place": str(place)}
        handle |= {"resources": dict(run.processor.resources), "sandbox": self._settings.sandbox}
        handle |= {"image": run.processor.image} if run.processor.image is not None else {}
        started(handle)
        try:
            with self._submitting:
                if self._watch.down is not None:
                    raise EngineDown(self._watch.down)
                watched.course.submitted = time.monotonic()
                watched.id = self._client.submit(options, watched.marks.script)
        except Refused as exc:
            return self._refused(watched, exc, place)
        except EngineDown as exc:
            if watched.marks.withdraw():
                self._watch.unwanted(run.name)
                self._watch.lost(str(exc))
                return Ended(None, interrupted=str(exc), not_begun=True)
        try:
            started({**handle, "slurm_id": watched.id})
        except BaseException:
            watched.stop = "its record could not be written"
            self._end(watched)
            raise
        self._watch.watch(watched)
        return None

    def _refused(self, watched: Watched, exc: Refused, place: Place) -> Ended:
        run, where = watched.run, str(place)
        if exc.lasting:
            said = f"no node of the cluster can take it ({exc}): {slurm_request.asked(run, place)}"
            return Ended(None, trouble=said)
        why = f"Slurm does not take jobs for {where}: {exc}"
        self._watch.doubt(where, why, lambda: slurm_order.why_not(self._client, place))
        return Ended(None, interrupted=why, not_begun=True)

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _attend(self, watched: Watched, log: OutputLog) -> Ended:
        while True:
            watched.bell.wait()
            watched.bell.clear()
            if watched.verdict and self._is_over(watched):
                return self._over(watched, log)
            if watched.stop is not None:
                return self._stopped(watched, log)
            if watched.left:
                watched.goes_on = True
                raise GoesOn(f"{watched.run.name} goes on at the cluster as job {watched.id}")

    def _is_over(self, watched: Watched) -> bool:
        """What has not begun as far as is seen here is over if it cannot begin any more."""
        lost = watched.verdict
        if isinstance(lost, Lost) and not lost.begun and not watched.marks.withdraw():
            watched.verdict = False
        return bool(watched.verdict)

    def _over(self, watched: Watched, log: OutputLog) -> Ended:
        run, hint = watched.run, watched.course.hint
        self._last_of_log(watched, log)
        end = watched.marks.end()
        if end is None:
            lost = watched.verdict if isinstance(watched.verdict, Lost) else Lost("its end cannot be read")
            watched.marks.withdraw()
            self._watch.unwanted(run.name)
            place = self._place(run.processor)
            ended = slurm_end.of_lost(run, lost, hint, slurm_request.asked(run, place))
        elif not slurm_end.whole(run, end, self._settings.patience.late):
            ended = Ended(None, interrupted=f"not all of its {end.files} files in OUTPUT came from node {end.node}")
        else:
            ended = slurm_end.of_end(run, end, hint, log.last_line)
        if said := ended.trouble or (ended.interrupted if end is None else None):
            log.say(said)
        return ended

    def _last_of_log(self, watched: Watched, log: OutputLog) -> None:
        with watched.lock:
            watched.copy()
            watched.log = None
        more, end = watched.marks.dropped()
        log.left_out(more, end)

    def _stopped(self, watched: Watched, log: OutputLog) -> Ended:
        reason = watched.stop or ""
        code = self._end(watched)
        self._last_of_log(watched, log)
        log.say(f"stopped: {reason}")
        return Ended(code, log.last_line, interrupted=reason)

    def _end(self, watched: Watched) -> int | None:
        """End a run: withdraw it, or tell its script, and then Slurm; return its exit code if it has one."""
        if watched.marks.withdraw():
            self._watch.unwanted(watched.run.name)
            return None
        if watched.course.known or watched.id is not None:
            self._watch.watch(watched)
        with contextlib.suppress(EngineDown):
            if watched.id is not None:
                self._client.tell(watched.id, "TERM")
        if not self._waited(watched, watched.run.stop_grace + HARDER):
            self._watch.unwanted(watched.run.name)
            self._waited(watched, HARDEST)
        end = watched.marks.end()
        return slurm_end.exit_code(end) if end is not None else None

    def _waited(self, watched: Watched, seconds: float) -> bool:
        give_up = time.monotonic() + seconds
        while not watched.verdict and (remaining := give_up - time.monotonic()) > 0:
            watched.bell.wait(remaining)
            watched.bell.clear()
        return bool(watched.verdict)

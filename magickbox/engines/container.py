"""The container engine: a processor's run in a container of its own, by the command line of podman or docker.

A run is one ``podman run`` that stays attached: its output is the log, its exit code the container's. The container
has the run's name and labels and is not removed by itself, so that a box that was killed finds it again. What the
client says with 125 to 127 may be its own trouble or the processor's; the container's state tells them apart.
"""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from magickbox.bytesize import in_bytes
from magickbox.convention import Convention, Image, Stage
from magickbox.engine import Ended, Run
from magickbox.engines import container_end, leftovers, start_trouble
from magickbox.engines.attended import Attended, Why, out_of_time
from magickbox.engines.bells import Bell, Bells
from magickbox.engines.container_cli import ContainerCli, Finder
from magickbox.engines.container_options import BOX, RUN, Owner, command_line, owner, pidfile, started_in
from magickbox.engines.container_trial import trial_run, why_not_started
from magickbox.engines.continued_log import ContinuedLog
from magickbox.engines.fork_watch import ForkWatch
from magickbox.engines.handover import Growth, give_back, hand_over
from magickbox.engines.image_store import known
from magickbox.engines.images import Images
from magickbox.engines.leftovers import Kin
from magickbox.engines.limits import Limits, limits_of
from magickbox.engines.output_log import OutputLog
from magickbox.engines.survivor import Survivor, Waiter, survivor, until
from magickbox.errors import EngineDown
from magickbox.processor import Processor

TERM_EVERY = 0.5  # seconds until a container that was not there yet is told again to end
KILLED = 15.0  # seconds for a killed container to be gone
SOMEBODY = Owner("", 0)  # who a run was that is rejoined: whoever it was, its files become the box's
RunIn = tuple[ContainerCli, Image, Stage, Owner]


class ContainerEngine:
    """Runs processors in containers; implements ``engine.Engine``."""

    def __init__(
        self, finder: Finder, images: Images, convention: Callable[[Run], Convention], box: Path, limits: Limits
    ) -> None:
        """``convention`` says how a run's processor wants it; ``box`` tells this box's containers from another's;
        ``limits`` are those of processors that name none."""
        self._finder, self._images, self._convention, self._limits = finder, images, convention, limits
        self._box, self._bells = str(box.absolute()), Bells()

    def refusal(self, processor: Processor) -> str | None:
        """Why a processor has to wait for its image, or None."""
        return self._images.why_not(processor)

    def run(self, run: Run, started: Callable[[dict[str, object]], None]) -> Ended:
        """Run to the end, with the container gone; see ``engine.Engine.run``."""
        try:
            bell = self._bells.hang(run.name)
        except OSError as exc:
            return Ended(None, interrupted=start_trouble.of_machine(exc), not_begun=True)
        try:
            within = self._within(run, self._images.image_of(run.processor))
            with contextlib.closing(OutputLog(run.log, run.log_limit)) as log:
                return self._doubted(self._run(run, within, started, bell, log), run.processor)
        except EngineDown as exc:
            self._finder.lost()
            return self._doubted(Ended(None, interrupted=str(exc), not_begun=True), run.processor)
        finally:
            self._bells.take_down(run.name)

    def trial(self, processor: Processor, image: Image) -> str | None:
        """Why this machine cannot start a container for a processor; None if it can. Nothing of the image is run."""
        try:
            with tempfile.TemporaryDirectory(prefix="magickbox-") as folder:
                return why_not_started(self._tried(trial_run(processor, Path(folder)), image))
        except OSError as exc:
            return start_trouble.of_machine(exc)
        except EngineDown as exc:
            self._finder.lost()
            return str(exc)

    def _tried(self, run: Run, image: Image) -> Ended:
        bell = self._bells.hang(run.name)
        try:
            with contextlib.closing(OutputLog(run.log, run.log_limit)) as log:
                cli, image, stage, who = self._within(run, image)
                nowhere = replace(stage, command=run.processor.command, arguments=())
                return self._run(run, (cli, image, nowhere, who), lambda _: None, bell, log)
        finally:
            self._bells.take_down(run.name)

    def _doubted(self, ended: Ended, processor: Processor) -> Ended:
        """Let jobs of a processor that could not be started wait until a trial can be."""
        image = self._images.image_of(processor)
        if ended.not_begun and ended.interrupted is not None and image is not None:
            self._images.doubt(processor, ended.interrupted, lambda: self.trial(processor, image))
        return ended

    def stop(self, name: str, reason: str) -> None:
        """End a run that another thread waits for; see ``engine.Engine.stop``."""
        self._bells.ring(name, reason)

    def leave(self, name: str) -> bool:  # noqa: ARG002  # it is the same for all
        """No: a container outlives a kill of the box, and not its stop; see ``engine.Engine.leave``."""
        return False

    def rejoin(self, run: Run) -> Ended | None:
        """Wait for the container that a killed box had started; see ``engine.Engine.rejoin``."""
        try:
            bell = self._bells.hang(run.name)
        except OSError:
            return None
        try:
            leftovers.end_all(Kin(self._marks(run.name)))
            cli = self._finder.get()
            found = survivor(cli, run.name, self._box)
            if found is None:
                return None
            with contextlib.closing(ContinuedLog(run.log, run.log_limit, run.log_begins)) as log:
                return self._rejoin(cli, run, found, bell, log)
        except (EngineDown, OSError):
            self._finder.lost()
            return None
        finally:
            self._bells.take_down(run.name)

    def end_leftovers(self, name: str) -> int:
        """End and remove the container that a killed box had started under this name; return how many there were."""
        clients = leftovers.end_all(Kin(self._marks(name))).ended
        found = self._containers(f"{RUN}={name}") if self._finder.is_installed() else []
        self._remove(found)
        return clients + len(found)

    def sweep(self, spared: Collection[str] = ()) -> int:
        """Remove this box's containers that no run of it knows, nor ``spared``; return how many there were."""
        found = self._containers(RUN, "{{.ID}} {{.Names}}") if self._finder.is_installed() else []
        strays = [line.split()[0] for line in self._bells.without(found, set(spared))]
        self._remove(strays)
        return len(strays)

    def _containers(self, label: str, shown: str = "{{.ID}}") -> list[str]:
        """What there is of this box with a label; nothing if the engine does not answer: the next sweep finds it."""
        try:
            answer = self._finder.get().ask(
                "ps", "--all", "--filter", f"label={label}", "--filter", f"label={BOX}={self._box}", "--format", shown
            )
        except EngineDown:
            return []
        return answer.out.splitlines()

    def _remove(self, names: Sequence[str]) -> None:
        with contextlib.suppress(EngineDown):
            if names:
                self._finder.get().ask("rm", "--force", "--volumes", *names)

    def _within(self, run: Run, image: Image | None) -> RunIn:
        """Engine, image, stage and user of a run; raises EngineDown if there is no engine, or no image yet."""
        cli = self._finder.get()
        if image is None:
            raise EngineDown(self._images.why_not(run.processor) or "its image is not here")
        stage = self._convention(run).stage(run, image)
        return cli, image, stage, owner(cli, stage, os.getuid(), os.getgid())

    def _run(
        self, run: Run, within: RunIn, started: Callable[[dict[str, object]], None], bell: Bell, log: OutputLog
    ) -> Ended:
        cli, image, stage, who = within
        memory = self._images.memory_of(run.processor) if stage.memory else None
        try:
            hand_over(run, memory, who)
            process = self._start(run, within, memory)
        except (OSError, ValueError) as exc:
            log.say(start_trouble.of_machine(exc))
            return Ended(None, interrupted=start_trouble.of_machine(exc), not_begun=True)
        client = Attended(process, log)
        why: Why | None = None
        limits, forks = limits_of(run.processor, self._limits), ForkWatch(pidfile(run))
        try:
            started({**_handle(cli, run, image, stage, client.pid), "sandbox": cli.name, "limits": limits.told()})
            why = self._attend(cli, run, client, bell, log, time.monotonic() + run.timeout, forks)
        finally:
            if why is not Why.EXIT:
                self._end(cli, run, client, why)
            code = client.finish()
            state = container_end.state_of(cli, run, code, why)
            self._remove([run.name])
            pidfile(run).unlink(missing_ok=True)
            give_back(run, who)
        ended = container_end.judge(run, image, cli, why, code, state, bell.reason, log, limits, forks.refused)
        if ended.interrupted is not None and why is Why.EXIT and known(cli, image.id) is None:
            self._images.gone(run.processor)
        return ended

    def _rejoin(self, cli: ContainerCli, run: Run, found: Survivor, bell: Bell, log: OutputLog) -> Ended | None:
        client = Waiter(cli, run.name, self._marks(run.name), log)
        why: Why | None = None
        forks = ForkWatch(pidfile(run))
        try:
            why = self._attend(cli, run, client, bell, log, until(found, run.timeout, KILLED), forks)
        finally:
            if why is not Why.EXIT:
                self._end(cli, run, client, why)
            waited = client.finish()
            over = survivor(cli, run.name, self._box)
            state = container_end.state_of(cli, run, over.exit_code, why) if over else None
            if over is not None and not over.running:
                self._remove([run.name])
                pidfile(run).unlink(missing_ok=True)
                give_back(run, SOMEBODY)
        if over is None or over.running or (why is Why.EXIT and waited != 0):
            return None
        image = Image(run.processor.image or "", "", architecture=cli.architecture)
        limits = limits_of(run.processor, self._limits)
        return container_end.judge(run, image, cli, why, over.exit_code, state, bell.reason, log, limits, forks.refused)

    def _start(self, run: Run, within: RunIn, memory: Path | None) -> "subprocess.Popen[bytes]":
        cli, image, stage, who = within
        with open(os.devnull, "rb") as nothing:  # see launch.py
            return subprocess.Popen(  # noqa: S603  a list of arguments, no shell
                command_line(cli, run, image, stage, who, self._box, memory, limits_of(run.processor, self._limits)),
                cwd=run.workdir,
                env={**cli.environment, **self._marks(run.name)},
                stdin=nothing,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )

    def _marks(self, name: str) -> dict[str, str]:
        return {"MAGICKBOX_RUN": name, "MAGICKBOX_BOX": self._box}

    def _attend(
        self, cli: ContainerCli, run: Run, client: Attended, bell: Bell, log: OutputLog, clock: float, forks: ForkWatch
    ) -> Why:
        """Wait for the end, a stop, the clock or too much output; then ask the container to end, and wait again."""
        growth = Growth(run, _most(run))

        def look() -> bool:
            forks.look()
            return growth.is_too_much()

        why = client.wait(clock, bell, look)
        if why is Why.EXIT:
            return Why.LOOK if growth.is_too_much() else why  # it wrote faster than anybody looked
        log.say({Why.CLOCK: out_of_time(run), Why.STOP: f"stopped: {bell.reason}"}.get(
            why, container_end.too_much(run)))  # fmt: skip
        give_up = time.monotonic() + run.stop_grace
        while not self._told(cli, run.name, "TERM") and time.monotonic() < give_up:
            if client.wait(min(give_up, time.monotonic() + TERM_EVERY)) is Why.EXIT:
                return why
        client.wait(give_up)
        return why

    def _end(self, cli: ContainerCli, run: Run, client: Attended, why: Why | None) -> None:
        """Kill the container, then its client if that does not follow."""
        self._told(cli, run.name, "KILL")
        if why is None or client.wait(time.monotonic() + KILLED) is not Why.EXIT:
            client.kill()

    def _told(self, cli: ContainerCli, name: str, what: str) -> bool:
        with contextlib.suppress(EngineDown):
            return cli.ask("kill", "--signal", what, name).code == 0
        return False


def _handle(cli: ContainerCli, run: Run, image: Image, stage: Stage, pid: int) -> dict[str, object]:
    """What run.json keeps of it."""
    return {
        "engine": cli.name,
        "container": run.name,
        "pid": pid,
        "command": list(started_in(run, image, stage)),
        "image": image.name,
        "image_id": image.id,
        "image_digest": image.digest,
        "timeout": run.timeout,
        "resources": dict(run.processor.resources),
    }


def _most(run: Run) -> int:
    """Bytes that a run may write: what it declares, else four fifths of the disk that is free now."""
    told = dict(run.processor.resources).get("output")
    if told:
        return in_bytes(str(told))
    free = os.statvfs(run.output)
    return free.f_bavail * free.f_frsize * 4 // 5

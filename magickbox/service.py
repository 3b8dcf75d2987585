"""The only place that wires: settings in, a box out. Starts it, stops it, and says where it listens."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from magickbox.access import Access
from magickbox.alarms import Alarms, AlarmTimes
from magickbox.births.birth import Birth
from magickbox.births.newjob import Policy
from magickbox.births.policies import policy_of
from magickbox.capacity import LOOK_EVERY, Capacity
from magickbox.config import Settings
from magickbox.control import ControlServer
from magickbox.conventions import CONVENTIONS
from magickbox.datafolder import BoxLock, DataFolder
from magickbox.deliver import Deliver
from magickbox.disk import Disk
from magickbox.dropins.folder import Dropins
from magickbox.dropins.pins import adorn
from magickbox.dropins.watch import DropinWatch
from magickbox.engines.configured import engine_of
from magickbox.engines.container_cli import Finder
from magickbox.engines.images import Images
from magickbox.engines.protection import Protection, of_settings, tried
from magickbox.errors import ConfigError
from magickbox.hooks.configured import hooks_of
from magickbox.housekeeping import Chore, Housekeeping
from magickbox.incoming.quarantine import Quarantine
from magickbox.job import JobState
from magickbox.ledger import Ledger, jobs, proofs
from magickbox.logs import LogFile
from magickbox.machine import room_of
from magickbox.mending.recovery import Recovery
from magickbox.operations import Operations
from magickbox.owncalls import OwnCalls
from magickbox.pace import Pace
from magickbox.process import Process
from magickbox.processor import choose
from magickbox.receive import Receive
from magickbox.removal import Removal
from magickbox.retention import EVERY, Retention
from magickbox.route import Route
from magickbox.rules.history import RuleHistory
from magickbox.rules.keeper import RuleKeeper
from magickbox.runs.chain import ChainEngine
from magickbox.runs.runner import Limits, Runner, run_name
from magickbox.scp.server import TLS_PORT, Port, Receiver
from magickbox.scp.upper import Timeouts
from magickbox.sender import ByKind
from magickbox.senders import provers, senders
from magickbox.standing import standing
from magickbox.steps import Reached, unwatched
from magickbox.tls import ServerTls
from magickbox.tlsfiles import tls_files
from magickbox.transcoding.pool import WorkerPool
from magickbox.waitingroom import ReadyCount


@dataclass(frozen=True)
class Places:
    """Where the box finds what people give it."""

    data: DataFolder
    routing: Path
    processors: Path


@dataclass(frozen=True)
class Tuning:
    """What only tests and demonstrations change: retry pauses, network time-outs, the hook at each durable step."""

    pace: Pace | None = None
    timeouts: Timeouts | None = None
    reached: Reached = unwatched


class Box:
    """A running box; made by ``build``, used as ``start`` ... ``stop``."""

    def __init__(self, settings: Settings, places: Places, environment: Mapping[str, str], tuning: Tuning) -> None:
        self.settings, self.places, self._environment = settings, places, environment
        data, reached = places.data, tuning.reached
        self._tls_files = tls_files(settings, data.root)
        self._tls = ServerTls(self._tls_files, self._tell_of_tls) if self._tls_files else None
        self._lock = BoxLock(data)
        self._lock.acquire()
        self.disk = Disk(data.root, settings.min_free, data.ballast)
        self.logs = {name: LogFile(data.logs / f"{name}.log") for name in ("receive", "process", "routing")}
        receive_note, process_note, routing_note = (self.logs[n].note for n in ("receive", "process", "routing"))
        self.ledger = Ledger(data.ledger, when_full=self.disk.drop_ballast)
        self.rules = RuleKeeper(
            places.routing, data.last_good_rules, lambda level, text: routing_note(level, "rules", {"reason": text}),
            settings.me, settings.me_port, RuleHistory(data.rule_history),
        )  # fmt: skip
        self.dropins = DropinWatch(
            places.processors, report=lambda text: process_note("warning", "processors", {"reason": text}),
            on_change=lambda found: self.images.want(found),
        )  # fmt: skip
        own_calls = OwnCalls()
        self._transcoder = WorkerPool(data.converted)
        self.capacity = Capacity(self.disk.has_room, ReadyCount(self.ledger), settings.max_waiting, receive_note)
        self._birth = Birth(data, self.ledger, reached)
        self._removal = Removal(data, self.ledger, reached)
        self.protection = of_settings(settings, data.root, data.root / "state" / "etc")
        finder = Finder(environment, settings.container_engine)
        self.images = Images(finder, data.root, data.state, self._changed, process_note)
        single = engine_of(settings, environment, data.root, self.protection, process_note, self.images, CONVENTIONS)
        self._engine = ChainEngine(single, settings.timeout, self.folder_of, self.disk.has_room, reached)
        sender = ByKind(senders(own_calls, self._transcoder), lambda: self.rules.current().destinations)
        self.deliver = Deliver(
            self.ledger, sender, self.folder_of, policy_of=lambda lane: self.rules.current().policy_of(lane),
            provers=provers(own_calls, sender.now), groups=lambda: self.rules.current().groups, pace=tuning.pace,
            note=routing_note, reached=reached,
        )  # fmt: skip
        self.route = Route(self.ledger, self.folder_of, self.rules.current, self.deliver.wake, routing_note, reached)
        runner = Runner(
            self.ledger, self._engine, self.folder_of, Limits(settings.timeout, settings.stop_grace),
            self.disk.has_room, self.route.wake, process_note, reached,
        )  # fmt: skip
        self.process = Process(
            self.ledger, runner, self.folder_of, self.current_dropins, room_of(settings),
            self.disk.has_room, self.route.wake, process_note, settings.off_peak,
        )  # fmt: skip
        self.receive = Receive(
            data, self.ledger, self._birth, self.policy, self._access(), self.capacity, own_calls,
            lambda _job: self._changed(), receive_note, self.deliver.reported,
        )  # fmt: skip
        self.receiver = Receiver(
            self._port(tuning), self.receive, lambda why: receive_note("warning", "trouble", {"reason": why})
        )
        self.operations = Operations(
            self.ledger, self._birth, self._removal, self._changed, self.process.touch, self.process.cancel
        )
        self.control = ControlServer(data.control, self.operations, self.status)
        self.control.tell("runs", self.process.runs)
        self._retention = Retention(
            self.ledger, self._removal, settings.keep_done, settings.keep_unrouted, process_note
        )
        hooks = hooks_of(settings.alarm_webhook, settings.alarm_command, environment)
        times = AlarmTimes(settings.alarm_after, settings.alarm_pause)
        self._alarms = Alarms(settings.ae_title, self.ledger, hooks, self.disk.has_room, times, routing_note)
        chores: tuple[Chore, ...] = (
            Chore("capacity", LOOK_EVERY, self.capacity.look),
            Chore("ballast", 10.0, self.disk.take_ballast),
            Chore("removals", 60.0, self._removal.carry_on_all),
            Chore("runs", 10.0, lambda: self._recovery.carry_on_runs()),
            Chore("containers", 600.0, self._sweep),
            Chore("retention", EVERY, self._retention.run_once),
        )
        if self._tls is not None:
            chores += (Chore("tls-files", 2.0, self._tls.context), Chore("tls-expiry", 86400.0, self._tls.tell_expiry))
        self._housekeeping = Housekeeping(chores, process_note)
        self._recovery = Recovery(
            data, self.ledger, self._birth, self._removal, self._engine, runner, self.process.rejoin,
            self.receive.recover, receive_note, self.disk.drop_ballast,
        )  # fmt: skip

    def _port(self, tuning: Tuning) -> Port:
        settings, data = self.settings, self.places.data
        port = Port(
            incoming=data.incoming, quarantine=Quarantine(data.quarantine), host=settings.host, port=settings.port,
            ae_title=settings.ae_title, fsync=settings.fsync, max_associations=settings.max_associations,
            receivers=settings.receivers, reached=tuning.reached, tls=self._tls_files,
            tls_port=settings.tls_port or 0,
        )  # fmt: skip
        return port if tuning.timeouts is None else replace(port, timeouts=tuning.timeouts)

    def _tell_of_tls(self, level: str, text: str) -> None:
        self.logs["receive"].note(level, "tls", {"reason": text})

    def _sweep(self) -> None:
        with self.ledger.reading() as tx:
            spared = {run_name(job.id, job.attempt) for job in jobs.in_state(tx, JobState.RUNNING)}
        self._engine.sweep(spared)

    def _access(self) -> Access:
        s = self.settings
        knows = self._knows if s.unknown_called_ae == "reject" else None
        return Access(s.max_associations, s.calling_ae_allowed, knows, s.max_per_caller)

    def _knows(self, called_ae: str) -> bool:
        """True if a processor serves the title, or a destination was asked under it and may answer."""
        if choose(self.current_dropins().good, called_ae) is not None:
            return True
        with self.ledger.reading() as tx:
            return proofs.awaited_by(tx, called_ae)

    def current_dropins(self) -> Dropins:
        """The drop-ins as they are now, with what their images say of themselves."""
        return adorn(self.dropins.current, self.images.pins)

    def policy(self, called_ae: str) -> Policy:
        """How instances for a called AE become jobs: the settings, with what its processor overrides."""
        return policy_of(self.settings, choose(self.current_dropins().good, called_ae))

    def folder_of(self, job: str) -> Path:
        """A job's folder."""
        return self.places.data.jobs / job

    def _changed(self) -> None:
        """Something a stage waits for may have come: wake them all."""
        self.process.wake()
        self.route.wake()
        self.deliver.wake()

    def tls_notes(self) -> tuple[str, ...]:
        """What is to be said of the files of TLS though they can be used: a certificate that soon expires."""
        return () if self._tls is None else self._tls.notes()

    def status(self) -> dict[str, object]:
        """What a look at the running box shows."""
        return standing(
            self.settings, self.receiver, self.receive, self.capacity, self.rules.problem, self.dropins.current,
            self.protection, self.disk, self.ledger,
        )  # fmt: skip

    def adopt(self, settings: Settings) -> None:
        """Take up at once what of these settings can be: ``resettling.LIVE``."""
        self.rules.stand_for(settings.me, settings.me_port)
        self._retention.keep(settings.keep_done, settings.keep_unrouted)
        hooks = hooks_of(settings.alarm_webhook, settings.alarm_command, self._environment)
        self._alarms.adopt(hooks, AlarmTimes(settings.alarm_after, settings.alarm_pause))

    def start(self) -> None:
        """Recover, start every stage, and open the port last; raises OSError or MagickboxError."""
        self.disk.take_ballast()
        level, reason = self.protection.told_at_start
        self.logs["process"].note(level, "sandbox", {"reason": reason})
        self.rules.start()
        self.dropins.start()
        self._recovery.run()
        self.images.start()
        self.deliver.start()
        self.route.start()
        self.process.start()
        self.receive.start()
        self._housekeeping.start()
        self._alarms.start()
        self.control.start()
        try:
            self.receiver.start()
        except OSError as exc:
            name = TLS_PORT if exc.filename == TLS_PORT else "port"
            where = f"{self.settings.host}:{getattr(self.settings, name)}"
            raise ConfigError(f"cannot listen on {where} (settings host and {name}): {exc.strerror or exc}") from exc

    def stop(self) -> None:
        """No new associations, C-STOREs in hand answered, processors ended; what is open goes on at the next start."""
        self.receiver.stop()
        self.control.stop()
        self._retention.stop()
        self.receive.stop()
        self.process.stop(self.settings.stop_grace + 10.0)
        self.route.stop()
        self.deliver.stop(self.settings.stop_grace)
        self._housekeeping.stop()
        self._alarms.stop()
        self.images.stop()
        self.rules.stop()
        self.dropins.stop()
        self.close()

    def close(self) -> None:
        """Let go of the data folder; enough if the box was never started."""
        self._transcoder.close()
        self.ledger.close()
        for log in self.logs.values():
            log.close()
        self._lock.release()


def build(settings: Settings, places: Places, environment: Mapping[str, str], tuning: Tuning | None = None) -> Box:
    """A box that is ready to start; raises DataFolderError, AlreadyRunning, LedgerError or ConfigError."""
    places.data.prepare()
    return Box(settings, places, environment, tuning or Tuning())


def protection_of(settings: Settings, places: Places) -> Protection:
    """What shields a box with these settings from its processors; tries it out."""
    return tried(settings, places.data.root)


@contextmanager
def operations_without_box(data: DataFolder) -> Iterator[Operations]:
    """What a person can do while no box runs, under its lock; raises AlreadyRunning or LedgerError."""
    with BoxLock(data):
        ledger = Ledger(data.ledger)
        try:
            yield Operations(ledger, Birth(data, ledger), Removal(data, ledger), lambda: None)
        finally:
            ledger.close()

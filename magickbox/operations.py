"""What a person can do to jobs and deliveries; the same whether the box runs or not.

Each returns a sentence for that person, and raises NotFound or ForbiddenMove with one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from magickbox.births.birth import Birth
from magickbox.births.rerun import rerun
from magickbox.errors import DiskFull, ForbiddenMove, NotFound
from magickbox.job import Job, JobPriority, JobState, Move
from magickbox.ledger import Ledger, Transaction, endings, jobs, queues, waiting
from magickbox.queueing import Mode
from magickbox.removal import Removal


@dataclass(frozen=True)
class Operations:
    """The verbs of ``magickbox jobs``, ``deliveries`` and ``destinations``; ``changed`` wakes the stages of a box.

    ``touched`` tells the stage of the processors of a job that a person said something of, ``end_run`` has it end the
    run of one, with the reason.
    """

    ledger: Ledger
    birth: Birth
    removal: Removal
    changed: Callable[[], None]
    touched: Callable[[str], None] = lambda _job: None
    end_run: Callable[[str, str], None] = lambda _job, _why: None

    def rerun(self, job: str, who: str) -> str:
        """A new job from the same instances."""
        new = rerun(self.ledger, self.birth, job, who)
        self.changed()
        return f"{new.id} is a rerun of {job}"

    def reroute(self, job: str, who: str) -> str:
        """Cancel what is open and decide anew with today's rules."""
        with self.ledger.transaction() as tx:
            jobs.move(tx, job, Move.REROUTE, f"to be decided anew, asked by {who}", who)
            cancelled = endings.cancel_open(tx, job, who)
        self.changed()
        return f"{job} is decided anew; {cancelled} open deliveries were cancelled"

    def hold(self, job: str, who: str) -> str:
        """Keep a job from its next step."""
        with self.ledger.transaction() as tx:
            found = jobs.get(tx, job)
            if found.state is JobState.RUNNING:
                jobs.set_hold_asked(tx, job, True, who)
                return f"{job} is running; it is held as soon as its processor has ended"
            jobs.move(tx, job, Move.HOLD, f"held by {who}", who)
        self.changed()
        return f"{job} is held"

    def cancel_job(self, job: str, who: str) -> str:
        """Keep a job from its processor, also by ending it: HELD, and its release makes it run from the beginning."""
        with self.ledger.transaction() as tx:
            found = jobs.get(tx, job)
            runs = found.state is JobState.RUNNING
            if runs:
                jobs.set_hold_asked(tx, job, True, who)
            elif found.state is JobState.READY:
                jobs.move(tx, job, Move.HOLD, f"cancelled by {who}", who)
            else:
                raise ForbiddenMove(f"{job} is {found.state}; only a job that is READY or RUNNING can be cancelled")
        if not runs:
            return f"{job} is held"
        self.end_run(job, f"cancelled by {who}")
        return f"{job} is running; its processor is told to end, and the job is held"

    def release(self, job: str, who: str) -> str:
        """Let a held job go on from where it was held."""
        with self.ledger.transaction() as tx:
            moved = self._release(tx, job, who)
        self.changed()
        return f"{job} goes on: {moved.state}"

    def _release(self, tx: Transaction, job: str, who: str) -> Job:
        found = jobs.get(tx, job)
        if found.state is JobState.RUNNING and found.hold_asked:
            jobs.set_hold_asked(tx, job, False, who)
            return found
        moved = jobs.move(tx, job, Move.RELEASE, f"released by {who}", who, not_before=None)
        if moved.state is JobState.DELIVERING:
            endings.settle(tx, job)
        return jobs.get(tx, job)

    def prioritize(self, priority: JobPriority, job: str, who: str) -> str:
        """Say how soon a job is to run, whatever its processor says."""
        with self.ledger.transaction() as tx:
            waiting.prioritize(tx, job, priority, who)
        self.touched(job)
        return f"{job} is {priority} now"

    def delete(self, job: str, who: str) -> str:
        """Remove a job's folder; its row stays."""
        self.removal.delete(job, f"deleted by {who}", who)
        return f"{job} is deleted; its row in the ledger stays"

    def retry(self, delivery: str, who: str) -> str:
        """Try a dead or cancelled delivery again, with a new budget."""
        with self.ledger.transaction() as tx:
            again = endings.retry(tx, _number(delivery), who)
        self.changed()
        return f"delivery {again.id} of {again.job} to {again.destination} is tried again"

    def cancel(self, delivery: str, who: str) -> str:
        """Take an open delivery back."""
        with self.ledger.transaction() as tx:
            gone = endings.cancel(tx, _number(delivery), who)
        self.changed()
        return f"delivery {gone.id} of {gone.job} to {gone.destination} is cancelled"

    def pause(self, destination: str, who: str) -> str:
        """Send nothing to a destination until it is resumed."""
        return f"nothing is sent to {self._set_mode(destination, Mode.PAUSED, who)} until it is resumed"

    def resume(self, destination: str, who: str) -> str:
        """Send to a destination again."""
        return f"{self._set_mode(destination, Mode.RUNNING, who)} is sent to again"

    def drain(self, destination: str, who: str) -> str:
        """Send a destination what is open now, and nothing that comes later until it is resumed."""
        return f"{self._set_mode(destination, Mode.DRAINING, who)} gets what is open now; what comes later waits"

    def _set_mode(self, destination: str, mode: Mode, who: str) -> str:
        with self.ledger.transaction() as tx:
            found = queues.find(tx, destination)
            queues.set_mode(tx, found.name, mode, who)
        self.changed()
        return found.name

    def ask(self, destination: str, _who: str) -> str:
        """Ask a destination that is unreachable at once whether it is there again."""
        with self.ledger.transaction() as tx:
            found = queues.find(tx, destination)
            queues.ask_soon(tx, found.name)
        self.changed()
        return f"{found.name} is asked"

    def do(self, verb: str, subject: str, who: str) -> str:
        """Do what a command names; raises NotFound for a verb that is not one."""
        verbs: dict[str, Callable[[str, str], str]] = {
            "rerun": self.rerun,
            "reroute": self.reroute,
            "hold": self.hold,
            "cancel-job": self.cancel_job,
            "release": self.release,
            "delete": self.delete,
            **{str(priority): partial(self.prioritize, priority) for priority in JobPriority},
            "retry": self.retry,
            "cancel": self.cancel,
            "pause": self.pause,
            "resume": self.resume,
            "drain": self.drain,
            "ask": self.ask,
        }
        if verb not in verbs:
            raise NotFound(f"the box does not know the command '{verb}'")
        act = verbs[verb]
        try:
            return act(subject, who)
        except DiskFull:
            return act(subject, who)  # the ledger has given up its ballast, so that now there is room


def _number(delivery: str) -> int:
    try:
        return int(delivery)
    except ValueError:
        raise NotFound(
            f"there is no delivery '{delivery}'; the first column of 'magickbox deliveries list' names them"
        ) from None

"""What marks and Slurm's hint together say of a run: it goes on, it has ended, or it is lost. Pure, the time is given.

Slurm alone never ends a run: a job that it calls over, or does not know, may have a script that still works. Only when
nothing of that has been seen to live for a while is the run given up; a new attempt has a folder of its own.
"""

from dataclasses import dataclass

from magickbox.engines.slurm_client import AtCluster
from magickbox.engines.slurm_marks import BEGUN, END, Seen

NEVER = frozenset({"PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints"})
UNSEEN, SECOND, UNWRITABLE = 71, 72, 73  # exit codes of slurm_job.sh


@dataclass(frozen=True)
class Patience:
    """Seconds: ``late`` is how long marks may take to be seen here, ``beat`` how often a script shows that it lives."""

    late: float = 90.0
    beat: float = 20.0


@dataclass(frozen=True)
class Lost:
    """A run that is over and did not tell its end.

    ``fault`` says that it is the processor's (its demands), ``begun`` that something of it may have run.
    """

    why: str
    fault: bool = False
    begun: bool = True


@dataclass
class Course:
    """What was seen of a run so far; one thread changes it."""

    submitted: float
    fresh: float = 0.0
    changed: float = 0.0
    pulse: tuple[int, int] = (0, 0)
    hint: AtCluster | None = None
    known: bool = False  # the hint, or that there is none, is younger than what the marks have shown
    taken: bool = False

    def look(self, seen: Seen, now: float) -> None:
        """Take in a look at the marks."""
        if seen.pulse != self.pulse or not self.changed:
            self.pulse, self.changed = seen.pulse, now
        if seen.taken and not self.taken:
            self.taken, self.changed, self.known, self.fresh = True, now, False, now

    def ask(self, hint: AtCluster | None, asked: float) -> None:
        """Take in what Slurm said; ``asked`` is when the question was put."""
        if asked <= max(self.submitted, self.fresh):
            return
        before = self.hint.state if self.hint is not None else None
        if not self.known or (hint.state if hint is not None else None) != before:
            self.changed = asked
        self.hint, self.known = hint, True


def judge(course: Course, seen: Seen, now: float, patience: Patience) -> Lost | bool:
    """True if the run has told its end, False if it goes on."""
    if END in seen.names:
        return True
    hint, waited = course.hint, now - course.changed >= patience.late
    if not course.known:
        return False
    if hint is None:
        if not seen.taken:
            return Lost("Slurm does not know its job", begun=False)
        return Lost("Slurm does not know its job any more, and it did not tell its end") if waited else False
    if hint.state == "PENDING" and not seen.taken:
        if hint.reason in NEVER:
            return Lost(f"no node of the cluster can take it ({hint.reason})", fault=True, begun=False)
        if "launch" in hint.reason.casefold() and waited:
            return Lost(f"Slurm could not launch it ({hint.reason})", begun=False)
        return False
    if hint.is_active and hint.state != "PENDING":
        return False
    return _over(hint, seen, waited)


def _over(hint: AtCluster, seen: Seen, waited: bool) -> Lost | bool:
    """Of a job that Slurm calls over, or waiting again although its script has begun."""
    where = f" on node {hint.node}" if hint.node else ""
    if hint.reason in NEVER and BEGUN not in seen.names:
        return Lost(f"no node of the cluster can take it ({hint.reason})", fault=True, begun=False)
    if hint.exit_code == UNSEEN and not seen.taken:
        return Lost(f"node {hint.node} does not see the data folder", begun=False)
    if hint.exit_code == UNWRITABLE and BEGUN not in seen.names:
        return Lost(f"node {hint.node} may not write into the data folder", begun=False)
    if hint.state == "CANCELLED" and not seen.taken:
        return Lost("it was cancelled at the cluster", begun=False)
    if not waited:
        return False
    return Lost(f"Slurm says {hint.state}{where}, and it did not tell its end", begun=seen.taken)

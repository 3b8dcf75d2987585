"""How often and how soon a delivery is tried again, and what an attempt's outcome means for it: pure arithmetic.

With a fallback the budget is short, because a person waits for the result at either place; without one it is long,
because giving up loses the result (contracts, section 6).
"""

import random
from dataclasses import dataclass, replace

from magickbox.delivery import Progress
from magickbox.proof import ProofState

MINUTE = 60.0
DAY = 24 * 60 * MINUTE


_TIMES = ("first", "longest", "patience", "confirm", "full", "probe", "longest_probe")


@dataclass(frozen=True)
class Pace:
    """The budgets and pauses, in seconds.

    ``short`` are the pauses between the attempts of a delivery that has a fallback, one fewer than its attempts.
    Otherwise the pause doubles from ``first`` up to ``longest``, less up to ``jitter`` of it by chance, until the
    delivery is ``patience`` old. ``confirm`` is the pause before a refusal for good is asked again on a second
    association, ``full`` the one before a full disk is tried again. After ``open_after`` connections in a row that
    nobody answered the destination is only asked whether it is there: after ``probe``, doubling up to
    ``longest_probe``. ``questions`` is how often in vain it is asked to verify what was sent.
    """

    short: tuple[float, ...] = (5.0, 15.0)
    first: float = 5.0
    longest: float = 15 * MINUTE
    jitter: float = 0.25
    patience: float = 7 * DAY
    confirm: float = 1.0
    full: float = 1.0
    open_after: int = 3
    probe: float = 10.0
    longest_probe: float = 2 * MINUTE
    questions: int = 3

    def scaled(self, factor: float) -> "Pace":
        """The same pace with every time multiplied, so that a test need not wait."""
        return replace(
            self,
            short=tuple(pause * factor for pause in self.short),
            **{name: getattr(self, name) * factor for name in _TIMES},
        )

    def next_pause(self, tries: int, age: float, has_fallback: bool, rng: random.Random) -> float | None:
        """The pause after attempt ``tries`` (1 is the first) of a delivery that old; None: its budget is spent."""
        if has_fallback:
            return self.short[tries - 1] if tries <= len(self.short) else None
        if age >= self.patience:
            return None
        doublings = min(tries - 1, 64)  # 2.0 ** more would overflow, and longest is reached long before
        return float(min(self.longest, self.first * 2.0**doublings) * (1 - self.jitter * rng.random()))

    def next_probe(self, probes: int, rng: random.Random) -> float:
        """The pause before a destination that ``probes`` probes did not reach is asked again."""
        return float(min(self.longest_probe, self.probe * 2.0 ** min(probes, 64)) * (1 - self.jitter * rng.random()))

    def budget(self, has_fallback: bool) -> float:
        """How old a delivery may become while its destination is unreachable: as its attempts would let it."""
        return sum(self.short) if has_fallback else self.patience


@dataclass(frozen=True)
class Outcome:
    """What one attempt brought: how many instances it sent, how many it saw refused, and the trouble it ended with.

    ``after`` are the seconds that the destination asked to wait.
    """

    sent: int = 0
    refused: int = 0
    trouble: str = ""
    after: float = 0.0


@dataclass(frozen=True)
class Arrived:
    """The destination has every instance."""


@dataclass(frozen=True)
class Failed:
    """There will be no further attempt."""

    reason: str


@dataclass(frozen=True)
class Again:
    """Another attempt after ``pause`` seconds; ``tries`` is the count to go on with."""

    pause: float
    tries: int
    reason: str


Verdict = Arrived | Failed | Again


def judge_attempt(
    left: Progress, outcome: Outcome, tries: int, age: float, has_fallback: bool, pace: Pace, rng: random.Random
) -> Verdict:
    """What becomes of a delivery after an attempt; ``tries`` counts this attempt, ``age`` is that of its budget.

    A refusal for good that is new is asked again soon, whatever the budget. A wish to wait is granted up to the longest
    pause, unless somebody waits for a fallback. Without a fallback, an attempt that got
    something through begins the pauses anew: a peer that aborts now and then must not make a large study take days.
    """
    reason = _reason(left, outcome)
    if not (left.pending or left.refused):
        return Failed(reason) if left.rejected else Arrived()
    if outcome.sent and not has_fallback:
        tries = 1
    pause = pace.next_pause(tries, age, has_fallback, rng)
    if pause is None:
        return Failed(f"given up after {_tries(tries) if has_fallback else _days(age)}: {reason}")
    pause = min(pause, pace.confirm) if outcome.refused else pause
    wish = 0.0 if has_fallback else min(outcome.after, pace.longest)
    return Again(max(pause, wish), tries, reason)


@dataclass(frozen=True)
class Asked:
    """How far the verification of a delivery is, all its instances sent: where the last question stands, and why.

    ``left`` are the seconds in which its answer may come; ``vain`` counts those questions of the present budget that
    were refused, not answered in time, or answered with instances missing.
    """

    state: ProofState | None
    left: float = 0.0
    vain: int = 0
    reason: str = ""


def judge_proof(
    asked: Asked, outcome: Outcome, tries: int, age: float, has_fallback: bool, pace: Pace, rng: random.Random
) -> Verdict:
    """What becomes of a delivery that has to be verified; the arguments are those of ``judge_attempt``.

    An answer is awaited however short the budget is: what takes over would bring everything a second time. What is
    asked in vain ``pace.questions`` times ends the delivery; trouble on the way to the destination uses its budget.
    """
    if asked.state is ProofState.COMMITTED:
        return Arrived()
    if asked.state is ProofState.ASKED and asked.left > 0:
        return Again(asked.left, tries, asked.reason)
    if asked.state in (ProofState.FAILED, ProofState.UNANSWERED):
        pause = pace.next_pause(asked.vain, 0.0, has_fallback, rng)
        if asked.vain >= pace.questions or pause is None:
            return Failed(f"sent, but not verified: {asked.reason}")
        return Again(pause, tries, asked.reason)
    reason = outcome.trouble or asked.reason or "all sent, not yet verified"
    pause = pace.next_pause(tries, age, has_fallback, rng)
    if pause is None:
        spent = _tries(tries) if has_fallback else _days(age)
        return Failed(f"sent, but not verified: given up after {spent}: {reason}")
    return Again(pause, tries, reason)


def _reason(left: Progress, outcome: Outcome) -> str:
    total = left.pending + left.sent + left.refused + left.rejected
    parts = [outcome.trouble] if outcome.trouble else []
    if left.rejected:
        parts.append(f"{left.rejected} of {total} instances refused for good")
    if left.refused:
        parts.append(f"{left.refused} of {total} instances refused once, to be asked again")
    return "; ".join(parts) or f"{left.pending} of {total} instances left"


def _tries(tries: int) -> str:
    return f"{tries} attempts"


def _days(age: float) -> str:
    return f"{age / DAY:.1f} days"

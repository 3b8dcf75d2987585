"""What the jobs of a line meet: a processor, none, or a reason to wait; the same for all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from magickbox.allotment import Amount, unfit
from magickbox.association import same_title
from magickbox.dropins.folder import BadDropin, Dropins
from magickbox.job import JobPriority
from magickbox.processor import FAILED, NO_PROCESSOR, Outcome, Processor, choose
from magickbox.schedule import Hours
from magickbox.waiting import Place

MOST_TITLES = 10_000  # a peer may call any number of them


@dataclass(frozen=True)
class Meets:
    """``processor`` takes them as soon as there is room, or they wait because of ``waits``, or all are over at once.

    ``name`` is whose processor's they were. ``is_usual`` says that nothing is wrong: it need not be in the log.
    """

    processor: Processor | None = None
    waits: str = ""
    outcome: Outcome | None = None
    name: str | None = None
    is_usual: bool = False


class Meetings:
    """Asked by one thread. Which processor serves a title is found out once for each look at the drop-ins."""

    def __init__(
        self, refusal: Callable[[Processor], str | None], has_room: Callable[[], bool], room: Amount, off_peak: Hours
    ) -> None:
        self._refusal, self._has_room, self._room, self._off_peak = refusal, has_room, room, off_peak
        self._dropins = Dropins(away=True)
        self._found: dict[str, Meets] = {}
        self._waits: dict[str, Meets | None] = {}
        self._once_good: dict[Path, Processor] = {}

    def look(self, dropins: Dropins) -> None:
        """Begin a round with the drop-ins as they are now."""
        self._waits.clear()
        if dropins != self._dropins or len(self._found) > MOST_TITLES:
            self._dropins = dropins
            self._found.clear()
            # One that is being edited still has its called AE.
            self._once_good.update({_home(processor): processor for processor in dropins.good})

    def of(self, place: Place, local: datetime) -> Meets:
        """What the jobs of a line meet in this round; ``local`` is the time of day on the wall."""
        found = self._found.get(place.called_ae)
        if found is None:
            found = self._found[place.called_ae] = self._serving(place.called_ae)
        if found.processor is None:
            return found
        if found.processor.name not in self._waits:
            self._waits[found.processor.name] = self._hindrance(found.processor)
        return self._waits[found.processor.name] or self._by_day(place, found.processor, local) or found

    def _by_day(self, place: Place, processor: Processor, local: datetime) -> Meets | None:
        """Off-peak jobs wait for their hours."""
        hours = processor.hours or self._off_peak
        if (place.priority or processor.priority) is not JobPriority.OFF_PEAK or not hours.closed_for(local):
            return None
        return Meets(waits=f"off-peak: waits for its hours ({hours})", is_usual=True)

    def _serving(self, called_ae: str) -> Meets:
        processor = choose(self._dropins.good, called_ae)
        bad = next((b for b in self._dropins.bad if self._would_serve(b, called_ae)), None)
        if self._dropins.away:
            return Meets(waits="the folder of the processors is not there")
        if processor is None and bad is not None:
            return Meets(waits=f"processor {bad.name} is bad: {bad.problems[0]}")
        if processor is None:
            return Meets(outcome=Outcome(NO_PROCESSOR, f"no processor serves {called_ae}"))
        never = unfit(processor, self._room)
        return Meets(processor) if never is None else Meets(outcome=Outcome(FAILED, never), name=processor.name)

    def _hindrance(self, processor: Processor) -> Meets | None:
        """What keeps all its jobs waiting now, whatever runs."""
        if (refusal := self._refusal(processor)) is not None:
            return Meets(waits=refusal)
        if not self._has_room():
            return Meets(waits="the disk is below its free-space mark (min_free)")
        return None

    def _would_serve(self, bad: BadDropin, called_ae: str) -> bool:
        """True if a bad drop-in has the name of the called AE, or served it when it was good."""
        was = self._once_good.get(bad.path)
        return same_title(bad.name, called_ae) or (was is not None and choose((was,), called_ae) is not None)


def _home(processor: Processor) -> Path:
    """Where a drop-in is, as a bad one names it: its folder, or its one file."""
    lone = Path(processor.command[0] if processor.command else "")
    return lone if lone.stem == processor.name and lone.parent == processor.folder else processor.folder

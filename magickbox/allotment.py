"""What a machine has to give to runs, what each of them holds, and whether one more fits: pure."""

from dataclasses import dataclass
from math import inf

from magickbox.bytesize import in_bytes, shown
from magickbox.processor import Processor

# How a person calls each of them; ``runs`` has a sentence of its own.
WORDS = {"cpus": "processor cores", "memory": "memory", "gpus": "graphics cards"}
_KINDS = ("runs", "cpus", "memory", "gpus")
_ROUNDING = 1e-9  # parts of cores are added and taken away again


@dataclass(frozen=True)
class Amount:
    """So many runs, cores (parts allowed), bytes of memory and graphics cards; infinite is without bounds."""

    runs: float = 1
    cpus: float = 1
    memory: float = 0
    gpus: float = 0

    def plus(self, other: "Amount") -> "Amount":
        """Both together."""
        return Amount(*(getattr(self, kind) + getattr(other, kind) for kind in _KINDS))

    def less(self, other: "Amount") -> "Amount":
        """What is left of this; never less than nothing."""
        return Amount(*(max(0.0, getattr(self, kind) - getattr(other, kind)) for kind in _KINDS))

    def lacks(self, asked: "Amount") -> str | None:
        """The first kind of which this has less than is asked; None if all of it is there."""
        return next((kind for kind in _KINDS if getattr(asked, kind) > getattr(self, kind) + _ROUNDING), None)


NOTHING = Amount(0, 0, 0, 0)


def unbounded(runs: int) -> Amount:
    """The room of an engine that counts cores, memory and cards itself, such as a cluster's."""
    return Amount(runs, inf, inf, inf)


def asked_by(processor: Processor | None) -> Amount:
    """What a run of a processor holds: its ``resources``; else one core, and neither memory nor cards.

    Of memory it holds what its package needs at least (``memory_needed``), if that is more than its limit says.
    """
    told = dict(processor.resources) if processor is not None else {}
    return Amount(
        cpus=float(str(told.get("cpus", 1))),
        memory=max(in_bytes(told.get("memory", 0)), in_bytes(told.get("memory_needed", 0))),
        gpus=float(str(told.get("gpus", 0))),
    )


def misfits(processor: Processor, room: Amount) -> list[str]:
    """What a processor asks for that there will never be, in words."""
    asked = asked_by(processor)
    return [
        f"asks for {_told(kind, getattr(asked, kind))} (resources.{kind}), and this box has"
        f" {_number(kind, getattr(room, kind)) if getattr(room, kind) else 'none'} to give (setting {kind})"
        for kind in WORDS
        if getattr(asked, kind) > getattr(room, kind) + _ROUNDING
    ]


def unfit(processor: Processor, room: Amount) -> str | None:
    """Why no run of a processor can ever start on a machine that has this much; None if it can."""
    wrong = misfits(processor, room)
    return f"processor {processor.name} {'; '.join(wrong)}" if wrong else None


def shortage(asked: Amount, free: Amount, room: Amount) -> str:
    """Why a run has to wait, for a person; ``free`` is what is left of ``room``."""
    kind = free.lacks(asked)
    if kind is None:
        return "waits behind a larger job, for which room is kept"
    if kind == "runs":
        return f"waits for a free slot: {room.runs:g} of {room.runs:g} are taken"
    left, has, need = (_number(kind, getattr(amount, kind)) for amount in (free, room, asked))
    return f"waits for {WORDS[kind]}: it needs {need}, {left} of {has} are free"


def _number(kind: str, value: float) -> str:
    return shown(value) if kind == "memory" else f"{value:g}"


def _told(kind: str, value: float) -> str:
    if kind == "memory":
        return f"{shown(value)} of memory"
    words = WORDS[kind].removesuffix("s") if value == 1 else WORDS[kind]
    return f"{value:g} {words}"

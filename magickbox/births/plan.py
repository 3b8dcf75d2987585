"""The plan of a job's birth: which file goes where, and the row that is to be written (section 8, steps 6 to 9).

It is durable in the job's folder before anything moves, so that a birth that was interrupted is carried on.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from magickbox.clock import from_text, to_text
from magickbox.gathering import Arrival
from magickbox.incoming.record import association_from_json, association_to_json
from magickbox.instance import Instance
from magickbox.job import Job, JobState
from magickbox.jobfolder import INPUT, SUPERSEDED, input_name, superseded_name
from magickbox.ledger.jobs import Held, Share

VIEW = "view"
_MOST_TOLD = 100


@dataclass(frozen=True)
class Transfer:
    """A file and where in the job it goes. Below incoming/ it is moved, below jobs/ (a view) linked."""

    source: str
    target: str


@dataclass(frozen=True)
class BirthPlan:
    """Everything that a birth does; ``drops`` are copies with the same bytes as what the job keeps.

    ``repeats`` are for the log, and not part of the JSON."""

    job: Job
    shares: tuple[Share, ...]
    held: tuple[Held, ...]
    moves: tuple[Transfer, ...]
    links: tuple[Transfer, ...] = ()
    drops: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()

    def told_repeats(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Which instances came more than once, as events for the log with their facts; at most 100 of each kind."""
        superseded = tuple(held.instance.sop_instance for held in self.held if held.place == SUPERSEDED)
        for event, uids in (("superseded", superseded), ("repeated", self.repeats)):
            for uid in uids[:_MOST_TOLD]:
                yield event, {"job": self.job.id, "instance": uid}
            if len(uids) > _MOST_TOLD:
                yield event, {"job": self.job.id, "more": len(uids) - _MOST_TOLD}

    def to_bytes(self) -> bytes:
        """The plan as JSON."""
        value = {
            "job": _job_to_json(self.job),
            "associations": [{**association_to_json(s.association), "instances": s.instances} for s in self.shares],
            "held": [{**vars(h.instance), "place": h.place} for h in self.held],
            "moves": [[t.source, t.target] for t in self.moves],
            "links": [[t.source, t.target] for t in self.links],
            "drops": list(self.drops),
        }
        return json.dumps(value).encode()


def plan_from_bytes(raw: bytes) -> BirthPlan:
    """A plan from its JSON; raises ValueError or KeyError if it is not whole."""
    value = json.loads(raw)
    return BirthPlan(
        job=_job_from_json(value["job"]),
        shares=tuple(Share(association_from_json(a), a["instances"]) for a in value["associations"]),
        held=tuple(_held_from_json(h) for h in value["held"]),
        moves=tuple(Transfer(*pair) for pair in value["moves"]),
        links=tuple(Transfer(*pair) for pair in value["links"]),
        drops=tuple(value["drops"]),
    )


def _job_to_json(job: Job) -> dict[str, Any]:
    return {k: to_text(v) if isinstance(v, datetime) else v for k, v in asdict(job).items()}


def _job_from_json(value: dict[str, Any]) -> Job:
    known = {f.name for f in fields(Job)}
    times = {name: from_text(value[name]) for name in ("received", "born", "since")}
    resume = JobState(value["resume"]) if value["resume"] else None
    plain = {k: v for k, v in value.items() if k in known}
    return Job(**{**plain, **times, "state": JobState(value["state"]), "resume": resume})


def _held_from_json(value: dict[str, Any]) -> Held:
    place = value.pop("place")
    return Held(Instance(**value), place)


@dataclass(frozen=True)
class Arranged:
    """What one job makes of its arrivals: kept instances, their moves, and copies that are dropped.

    ``repeats`` are the SOP Instance UIDs that came again with the same bytes, as often as they did.
    """

    held: tuple[Held, ...]
    moves: tuple[Transfer, ...]
    drops: tuple[str, ...]
    repeats: tuple[str, ...] = ()


def arrange(arrivals: Iterable[Arrival], same: Callable[[Arrival, Arrival], bool]) -> Arranged:
    """Of one SOP Instance UID the last acknowledged becomes INPUT, earlier contents superseded, equal ones are one."""
    versions: dict[str, list[Arrival]] = {}
    drops: list[str] = []
    repeats: list[str] = []
    for arrival in sorted(arrivals, key=lambda a: a.place):
        known = versions.setdefault(arrival.instance.sop_instance, [])
        equal = next((v for v in known if _one_file(v, arrival) or same(v, arrival)), None)
        if equal is None:
            known.append(arrival)
            continue
        known.remove(equal)
        known.append(equal)
        repeats.append(arrival.instance.sop_instance)
        if not _one_file(equal, arrival):
            drops.append(_source(arrival))
    placed = [entry for known in versions.values() for entry in _places(known)]
    return Arranged(tuple(h for h, _ in placed), tuple(t for _, t in placed), tuple(drops), tuple(repeats))


def _one_file(one: Arrival, other: Arrival) -> bool:
    return (one.association, one.instance.file) == (other.association, other.instance.file)


def _source(arrival: Arrival) -> str:
    return f"{arrival.association}/{arrival.instance.file}"


def _places(versions: list[Arrival]) -> list[tuple[Held, Transfer]]:
    uid = versions[0].instance.sop_instance
    placed = [_placed(versions[-1], INPUT, input_name(uid))]
    return placed + [_placed(v, SUPERSEDED, superseded_name(uid, n)) for n, v in enumerate(versions[:-1], 1)]


def _placed(arrival: Arrival, place: str, file: str) -> tuple[Held, Transfer]:
    return Held(replace(arrival.instance, file=file), place), Transfer(_source(arrival), f"{place}/{file}")

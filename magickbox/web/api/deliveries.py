"""Deliveries: the list, dead letters, one delivery with each instance's result, and trying again."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from magickbox.delivery import UNDECIDED, Delivery, DeliveryAttempt, DeliveryState, ItemState
from magickbox.ledger import Transaction, deliveries, jobs, listings, proofs, queues
from magickbox.ledger.listings import DeliveryFilter
from magickbox.prospect import what_next
from magickbox.queueing import lane_of
from magickbox.web.acting import act
from magickbox.web.api.jobs import do_all
from magickbox.web.context import Context
from magickbox.web.jobview import told
from magickbox.web.models.deliveries import (
    DeliveryAttemptModel,
    DeliveryModel,
    DeliveryWhole,
    ItemModel,
    ProofModel,
)
from magickbox.web.models.jobs import BulkRequest, DoneModel
from magickbox.web.paging import Cursor, Limit, Page, cursor_of, place_of
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import In, Operator, Viewer

router = APIRouter(prefix="/deliveries", tags=["deliveries"])

Verb = Literal["retry", "cancel"]


def _filter(
    state: Annotated[list[DeliveryState] | None, Query(description="in these states; `DEAD`: dead letters")] = None,
    destination: Annotated[str, Query(max_length=300, description="as the destinations are listed")] = "",
    job: Annotated[str, Query(max_length=100)] = "",
) -> DeliveryFilter:
    return DeliveryFilter(tuple(state or ()), destination, job)


Wanted = Annotated[DeliveryFilter, Depends(_filter)]


def list_deliveries(box: Context, wanted: DeliveryFilter, cursor: str | None, limit: int) -> Page[DeliveryModel]:
    """A page of deliveries, newest first; raises NotFound for a destination that there is not."""
    after = _number(cursor) if cursor is not None else None
    with box.ledger.reading() as tx:
        if wanted.lane:
            wanted = DeliveryFilter(wanted.states, queues.find(tx, wanted.lane).name, wanted.job)
        found = listings.page_of_deliveries(tx, wanted, after, limit + 1)
        lines = _lines(tx, found[:limit])
    return Page(items=lines, next=cursor_of(lines[-1].id) if len(found) > limit else None)


def _number(cursor: str) -> int:
    (place,) = place_of(cursor)
    if not place.isdecimal() or int(place) > deliveries.LARGEST:
        raise Problem(400, "no such page", "the cursor is not one that a listing gave")
    return int(place)


def _lines(tx: Transaction, found: list[Delivery]) -> list[DeliveryModel]:
    tries = listings.tries_of(tx, found)
    return [_line(each, tries.get(each.id, 0)) for each in found]


def _line(each: Delivery, tries: int) -> DeliveryModel:
    return DeliveryModel(
        id=each.id, job=each.job, rule=each.rule, entry=each.entry + 1, destination=str(each.destination),
        state=each.state.value, reason=each.reason, instances=each.instances, priority=each.priority.word, tries=tries,
        opened=each.opened, next_try=each.next_try if each.state is DeliveryState.OPEN else None, ended=each.ended,
        waits_for=each.waits_for,
    )  # fmt: skip


def one_delivery(box: Context, number: int) -> DeliveryWhole:
    """One delivery with its attempts and proofs; raises NotFound."""
    with box.ledger.reading() as tx:
        found = deliveries.get(tx, number)
        (line,) = _lines(tx, [found])
        tried = deliveries.attempts(tx, number)
        asked = proofs.of_delivery(tx, number)
        progress = deliveries.progress(tx, number)
        comes = _next(tx, found, tried) if found.state in UNDECIDED else ""
    return DeliveryWhole(
        delivery=line,
        next=comes,
        progress={name: count for name, count in vars(progress).items() if count},
        attempts=[DeliveryAttemptModel(**vars(each)) for each in tried],
        proofs=[
            ProofModel(
                how=each.how, transaction=each.uid, asked=each.asked, answered=each.answered, state=each.state,
                reason=each.reason,
            )
            for each in asked
        ],
    )  # fmt: skip


def _next(tx: Transaction, found: Delivery, tried: list[DeliveryAttempt]) -> str:
    under_way = tried[-1].began if tried and tried[-1].ended is None else None
    queue = queues.state_of(tx, lane_of(found.destination))
    return what_next(found, jobs.get(tx, found.job).state, queue, under_way)


def list_items(
    box: Context, who: Principal, number: int, states: list[ItemState], cursor: str | None, limit: int
) -> Page[ItemModel]:
    """A page of the instances of a delivery with their results; raises NotFound."""
    after = _number(cursor) if cursor is not None else 0
    with box.ledger.reading() as tx:
        deliveries.get(tx, number)
        found = listings.page_of_items(tx, number, states, after, limit + 1)
    lines = [
        ItemModel(
            n=each.n, file=each.file if who.sees_names else "", sop_instance=each.sop_instance, state=each.state.value,
            status=None if each.status is None else f"0x{each.status:04X}", reason=told(each.reason, who), at=each.at,
        )
        for each in found[:limit]
    ]  # fmt: skip
    return Page(items=lines, next=cursor_of(lines[-1].n) if len(found) > limit else None)


@router.get("", summary="Deliveries, newest first", responses={404: {}})
def get_deliveries(box: In, _: Viewer, wanted: Wanted, cursor: Cursor = None, limit: Limit = 50) -> Page[DeliveryModel]:
    return list_deliveries(box, wanted, cursor, limit)


@router.post("/bulk/{verb}", summary="Try several again, or take them back")
async def post_bulk(request: Request, who: Operator, verb: Verb, asked: BulkRequest) -> list[DoneModel]:
    """Each is told of by itself: one that the box refuses stops no other."""
    return await run_in_threadpool(do_all, request, who, verb, asked.ids)


@router.get("/{number}", summary="One delivery with its attempts")
def get_delivery(box: In, _: Viewer, number: int) -> DeliveryWhole:
    return one_delivery(box, number)


@router.get("/{number}/instances", summary="What the destination said of each instance")
def get_items(
    box: In, who: Viewer, number: int,
    state: Annotated[list[ItemState] | None, Query(description="in these states")] = None,
    cursor: Cursor = None, limit: Limit = 100,
) -> Page[ItemModel]:  # fmt: skip
    return list_items(box, who, number, state or [], cursor, limit)


@router.post("/{number}/{verb}", summary="Try a delivery again, or take it back")
def post_delivery(request: Request, who: Operator, number: int, verb: Verb) -> DoneModel:
    return DoneModel(id=str(number), done=True, said=act(request, who, verb, str(number)))

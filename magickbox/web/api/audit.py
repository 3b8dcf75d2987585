"""The audit: who did what."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from magickbox.web.context import Context
from magickbox.web.models.accounts import EntryOut
from magickbox.web.paging import USUAL, Cursor, Limit, Page, cursor_of, place_of
from magickbox.web.problems import Problem
from magickbox.web.security import In, admin

router = APIRouter(tags=["accounts"])
Word = Annotated[str, Query(max_length=100)]


@router.get("/audit", dependencies=[Depends(admin)], summary="Who did what, the newest first")
def read_audit(
    box: In, who_did: Word = "", action: Word = "", limit: Limit = USUAL, cursor: Cursor = None
) -> Page[EntryOut]:
    return audit_page(box, who_did, action, limit, cursor)


def audit_page(box: Context, who: str, action: str, limit: int, cursor: str | None) -> Page[EntryOut]:
    """A page of the audit; raises Problem 400 for a cursor that is none."""
    before = None
    if cursor is not None:
        (place,) = place_of(cursor)
        if not place.isdecimal() or len(place) > 18:
            raise Problem(400, "no such page", "the cursor is not one that this listing gave")
        before = int(place)
    found = box.accounts.audit.listing(limit + 1, before, who, action)
    more = cursor_of(found[limit - 1].id) if len(found) > limit else None
    return Page(items=[EntryOut(**asdict(entry)) for entry in found[:limit]], next=more)

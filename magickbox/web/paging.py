"""Listings in pages: each names the cursor of the next one."""

import base64
import binascii
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from magickbox.web.problems import Problem

T = TypeVar("T")
MOST, USUAL = 500, 100

Limit = Annotated[int, Query(ge=1, le=MOST, description="so many at most")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before")]


class Page(BaseModel, Generic[T]):
    """A part of a listing; ``next`` is null on the last page."""

    items: list[T]
    next: str | None = Field(None, description="what `cursor` must be for the next page; null: there is none")


def cursor_of(*place: str | int) -> str:
    """A cursor that says where a page ended, opaque to who gets it."""
    return base64.urlsafe_b64encode("\x1f".join(map(str, place)).encode()).decode().rstrip("=")


def place_of(cursor: str, parts: int = 1) -> list[str]:
    """Where a page ended, of as many parts as were given; raises Problem 400 for what is no cursor of ours."""
    try:
        place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split("\x1f")
    except (binascii.Error, ValueError):
        place = []
    if len(place) != parts:
        raise Problem(400, "no such page", "the cursor is not one that a listing gave")
    return place

"""How the box stands."""

from typing import Any

from fastapi import APIRouter, Depends

from magickbox.web.models.system import Status
from magickbox.web.security import In, viewer

router = APIRouter(tags=["box"])


@router.get("/status", dependencies=[Depends(viewer)], summary="What the running box is doing just now")
def read_status(box: In) -> Status:
    """503 if the box does not answer."""
    told: dict[str, Any] = box.status()
    return Status.model_validate(told)

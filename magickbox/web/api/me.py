"""Who asks."""

from fastapi import APIRouter

from magickbox.web.models.accounts import Me
from magickbox.web.security import Viewer

router = APIRouter(tags=["accounts"])


@router.get("/me", summary="Who asks, and what they may do")
def me(who: Viewer) -> Me:
    return Me.model_validate({"name": who.name, "role": who.role.word, "sees_names": who.sees_names, "via": who.via})

"""Users, tokens and the audit, as the API has them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

RoleWord = Literal["viewer", "operator", "admin"]


class Me(BaseModel):
    """Who asks."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "mueller", "role": "operator", "sees_names": True, "via": "session"}]}
    )

    name: str
    role: str
    sees_names: bool
    via: str

"""Users, tokens and the audit, as the API has them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RoleWord = Literal["viewer", "operator", "admin"]
Scope = Literal["read", "operate", "admin"]


def _example(**values: object) -> ConfigDict:
    shown: Any = {"examples": [values]}
    return ConfigDict(json_schema_extra=shown)


class Me(BaseModel):
    """Who asks."""

    model_config = _example(name="mueller", role="operator", sees_names=True, via="session")

    name: str
    role: RoleWord
    sees_names: bool = Field(description="false: patient names, IDs and birth dates are hidden")
    via: str = Field(description="`session`, or `token` and its label")


class UserOut(BaseModel):
    """Somebody who may log in."""

    model_config = _example(
        name="mueller", role="operator", has_password=True, made="2026-03-12T17:12:00.123456+00:00", last_seen=None
    )

    name: str
    role: RoleWord
    has_password: bool
    made: str
    last_seen: str | None = Field(description="the last log-in")


class Users(BaseModel):
    """All of them; there are never so many that they would need pages."""

    items: list[UserOut]


class NewUser(BaseModel):
    """Somebody who shall be able to log in."""

    model_config = _example(name="mueller", role="operator")

    name: str = Field(max_length=64)
    role: RoleWord


class RoleIn(BaseModel):
    """Another role."""

    model_config = _example(role="viewer")

    role: RoleWord


class LinkOut(BaseModel):
    """A one-time link by which a password is set."""

    model_config = _example(name="mueller", path="/setup/kW3nVq", hours=24)

    name: str
    path: str = Field(description="below the window's address")
    hours: int = Field(description="how long it works")


class TokenOut(BaseModel):
    """What is kept of a token."""

    model_config = _example(
        id=3, label="dashboard", user="mueller", scope="read", made="2026-03-12T17:12:00.123456+00:00", expires=None,
        seen=None,
    )  # fmt: skip

    id: int
    label: str
    user: str
    scope: Scope
    made: str
    expires: str | None
    seen: str | None = Field(description="when it was used last, to the minute")


class Tokens(BaseModel):
    """One's own tokens; an admin sees all."""

    items: list[TokenOut]


class NewToken(BaseModel):
    """A token to be made."""

    model_config = _example(label="dashboard", scope="read", days=90)

    label: str = Field(max_length=80, description="what it is for")
    scope: Scope
    days: int | None = Field(None, ge=1, le=3660, description="how long it works; null: until it is revoked")


class MadeToken(TokenOut):
    """A new token; the secret is told this once."""

    model_config = _example(
        id=3, label="dashboard", user="mueller", scope="read", made="2026-03-12T17:12:00.123456+00:00", expires=None,
        seen=None, token="mbx_kW3nVq",  # noqa: S106  # opens nothing
    )  # fmt: skip

    token: str


class EntryOut(BaseModel):
    """One thing that somebody did."""

    model_config = _example(
        id=17, at="2026-03-12T17:12:00.123456+00:00", who="mueller", via="session", address="10.0.0.9", action="rerun",
        subject="20260312T171245Z-ProcRSI-7f3a", result="20260312T180000Z-ProcRSI-1a2b is a rerun",
    )  # fmt: skip

    id: int
    at: str
    who: str
    via: str
    address: str
    action: str
    subject: str
    result: str


class Said(BaseModel):
    """What was done, in a sentence."""

    model_config = _example(said="mueller is an operator now")

    said: str

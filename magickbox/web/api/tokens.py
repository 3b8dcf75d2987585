"""Tokens: by which programs use the API."""

from dataclasses import asdict
from datetime import timedelta

from fastapi import APIRouter, Request

from magickbox.clock import now
from magickbox.web.acting import note
from magickbox.web.models.accounts import MadeToken, NewToken, Said, TokenOut, Tokens
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import In, Viewer
from magickbox.web.tokens import SCOPES, Token

router = APIRouter(tags=["accounts"])


def shown(token: Token) -> TokenOut:
    """A token as the API has it."""
    return TokenOut.model_validate(asdict(token))


def _only_mine(who: Principal) -> str | None:
    return None if who.may_administer else who.name


@router.get("/tokens", summary="One's own tokens; all, for an admin")
def list_tokens(box: In, who: Viewer) -> Tokens:
    return Tokens(items=[shown(token) for token in box.accounts.tokens.listing(_only_mine(who))])


@router.post("/tokens", status_code=201, summary="Make a token for a program")
def make_token(request: Request, box: In, who: Viewer, new: NewToken) -> MadeToken:
    """It belongs to who makes it, and never has more rights than they have. A token cannot make tokens."""
    if who.via != "session":
        raise Problem(403, "Forbidden", "a token cannot make tokens; log in")
    if SCOPES[new.scope] > who.role:
        raise Problem(403, "Forbidden", f"the scope {new.scope} is more than {who.name} has")
    until = now() + timedelta(days=new.days) if new.days else None
    token, secret = box.accounts.tokens.make(who.name, new.label, new.scope, until)
    note(request, who, "make token", token.label, token.scope)
    return MadeToken(**asdict(token), token=secret)


@router.delete("/tokens/{number}", summary="Revoke a token")
def revoke_token(request: Request, box: In, who: Viewer, number: int) -> Said:
    """One's own; an admin revokes any."""
    token = box.accounts.tokens.revoke(number, _only_mine(who))
    note(request, who, "revoke token", token.label, f"of {token.user}")
    return Said(said=f"the token {token.label} is revoked")

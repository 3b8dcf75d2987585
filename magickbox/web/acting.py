"""What a person or a program has the box do, written down with who it was."""

from fastapi import Request

from magickbox.errors import MagickboxError
from magickbox.web.context import context
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import address


def note(request: Request, who: Principal, action: str, subject: str, result: str = "done") -> None:
    """Write into the audit what was done."""
    context(request).accounts.audit.note(who.name, who.via, address(request), action, subject, result)


def act(request: Request, who: Principal, verb: str, subject: str) -> str:
    """Have the box do a verb of ``operations``; returns what it said, raises what it refused. Both are audited."""
    try:
        said = context(request).ask(verb, subject, who.name)
    except (MagickboxError, Problem) as exc:
        note(request, who, verb, subject, f"refused: {exc}")
        raise
    note(request, who, verb, subject, said)
    return said

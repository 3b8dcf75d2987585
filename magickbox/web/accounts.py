"""All that decides who is who: users, sessions, tokens, failed log-ins, and the audit of what was done."""

from dataclasses import dataclass
from pathlib import Path

from magickbox.web.audit import Audit
from magickbox.web.principal import Role
from magickbox.web.sessions import Sessions
from magickbox.web.store import Store
from magickbox.web.throttle import Throttle
from magickbox.web.tokens import Tokens
from magickbox.web.users import Users

DATABASE = "window.db"


@dataclass(frozen=True)
class Accounts:
    """The parts, over one store."""

    users: Users
    sessions: Sessions
    tokens: Tokens
    throttle: Throttle
    audit: Audit


def open_store(state: Path) -> Store:
    """The window's own database in the folder ``state``; raises StoreTrouble."""
    return Store(state / DATABASE)


def accounts_of(store: Store, hidden_from: str = "none") -> Accounts:
    """The accounts in a store; ``hidden_from`` is the setting ``web_hide_names``."""
    blind = blind_roles(hidden_from)
    return Accounts(Users(store), Sessions(store, blind), Tokens(store, blind), Throttle(store), Audit(store))


def blind_roles(hidden_from: str) -> frozenset[Role]:
    """The roles that see no patient names: none, viewers, or operators too."""
    highest = {"none": 0, "viewer": Role.VIEWER, "operator": Role.OPERATOR}[hidden_from]
    return frozenset(role for role in Role if role <= highest)

"""Who asks, and what they may do."""

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each may do what those below it may: look (viewer), act on jobs and deliveries (operator), all (admin)."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """The role as people and the API write it."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> "Role":
        """The role of that name; raises ValueError."""
        try:
            return cls[word.upper()]
        except KeyError:
            raise ValueError(f"'{word}' is no role; there are {', '.join(role.word for role in cls)}") from None


@dataclass(frozen=True)
class Principal:
    """Who asks: ``via`` is ``session`` or ``token <name>``; ``csrf`` what forms of a session must bring back."""

    name: str
    role: Role
    sees_names: bool
    via: str
    csrf: str = ""

    @property
    def may_operate(self) -> bool:
        """May act on jobs, deliveries and destinations."""
        return self.role >= Role.OPERATOR

    @property
    def may_administer(self) -> bool:
        """May change rules, processors, settings and users."""
        return self.role >= Role.ADMIN

"""The contract of a hook: something outside that is told of trouble."""

from typing import Protocol


class Hook(Protocol):
    """Tells somebody; comes back within its time limit whatever happens there."""

    @property
    def name(self) -> str:
        """What logs call it; no secret of an address is in it."""
        ...

    def tell(self, facts: bytes) -> str | None:
        """Hand over one JSON object; None if it was taken, otherwise why not, without any secret."""
        ...

    def end(self) -> None:
        """Cut short what is being told, from any thread."""
        ...

"""The settings that the box has in force, as the window knows them; they change when somebody changes them here."""

import threading

from magickbox.config import Loaded


class InForce:
    """Safe from any thread."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.editing = threading.Lock()  # one edit of the file at a time

    @property
    def loaded(self) -> Loaded:
        """The settings, with their sources."""
        return self._loaded

    def take(self, loaded: Loaded) -> None:
        """The box has taken these up."""
        self._loaded = loaded

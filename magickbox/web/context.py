"""What every page and every answer of the API works with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request

from magickbox.config import Loaded, Settings
from magickbox.control import ask
from magickbox.datafolder import DataFolder
from magickbox.disk import Disk
from magickbox.imaging.pictures import Pictures
from magickbox.ledger.reader import Reader
from magickbox.service import Places
from magickbox.web.accounts import Accounts, accounts_of, open_store
from magickbox.web.catalogue import KEPT, Catalogue
from magickbox.web.inforce import InForce
from magickbox.web.problems import Problem
from magickbox.web.start import Start
from magickbox.web.store import Store
from magickbox.web.trials import Trials
from magickbox.web.uploads import Uploads
from magickbox.web.workbench import Workbench


@dataclass(frozen=True)
class Context:
    """One for the whole process. The ledger is read here and never written; ``ask`` is how the box is told things."""

    data: DataFolder
    places: Places
    config: Path  # magickbox.toml, whether it is there or not
    in_force: InForce
    ledger: Reader
    store: Store
    accounts: Accounts
    pictures: Pictures
    catalogue: Catalogue
    uploads: Uploads
    trials: Trials
    workbench: Workbench = field(default_factory=Workbench)

    @property
    def settings(self) -> Settings:
        """The settings that the box has in force."""
        return self.in_force.loaded.settings

    @property
    def loaded(self) -> Loaded:
        """The same, with their sources."""
        return self.in_force.loaded

    def ask(self, verb: str, subject: str = "", who: str = "") -> str:
        """Have the box do something and return what it said; raises Problem 503 if it does not answer."""
        return str(self._asked(verb, subject, who)["said"])

    def status(self) -> dict[str, Any]:
        """What the running box says of itself; raises Problem 503."""
        return dict(self._asked("status", "", "")["status"])

    def _asked(self, verb: str, subject: str, who: str) -> dict[str, Any]:
        try:
            answer = ask(self.data.control, verb, subject, who)
        except OSError as exc:
            raise Problem(503, "The box does not answer", str(exc)) from exc
        if answer is None:
            raise Problem(503, "The box does not answer", "it is being started or stopped; try again in a moment")
        return answer

    def close(self) -> None:
        """Let go of ledger and database, and end what renders pictures, or tries processors."""
        self.pictures.close()
        self.uploads.close()
        self.trials.close()
        self.ledger.close()
        self.store.close()


def build_context(start: Start) -> Context:
    """The context of a window; raises StoreTrouble."""
    data = start.places.data
    store = open_store(data.state)
    return Context(
        data, start.places, start.config, InForce(start.loaded), Reader(data.ledger, {KEPT: store.path}), store,
        accounts_of(store, start.settings.web_hide_names), Pictures(data, start.settings.min_free), Catalogue(store),
        Uploads(data.state / "uploads", Disk(data.root, start.settings.min_free, data.ballast)),
        Trials(data.trials),
    )  # fmt: skip


def context(request: Request) -> Context:
    """FastAPI dependency: the context."""
    found = request.app.state.context
    assert isinstance(found, Context)
    return found

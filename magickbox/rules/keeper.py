"""Keeps the rules in force: reads the routing file anew when it changes, and stays with the last good if it is bad."""

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from magickbox.durable import write_atomic
from magickbox.routing import Rules
from magickbox.rules.file import EMPTY, LARGEST, RulesRefused, decode, parse
from magickbox.rules.history import BY_HAND, RuleHistory

Report = Callable[[str, str], None]
"""``report(level, message)``: level is info, warning or error."""

PAUSE = 0.5  # seconds between two looks at the file's state
SETTLED = 2.0  # seconds after which a file's time tells for sure that it was not written again
MOST_REPORTED = 20
GONE = "the last good rules stay in force; write a file with no rules to have none"

_Signature = tuple[int, int, int]


class RuleKeeper:
    """The rules of one routing file, looked at again and again in a thread of its own.

    ``last_good`` is where the text of the last good rules is kept, also over a restart. ``me`` and ``me_port`` are what
    ``$me`` and ``$port`` stand for. ``report`` is told of every change once, ``history`` keeps what came into force.
    """

    def __init__(
        self,
        file: Path,
        last_good: Path,
        report: Report,
        me: str | None = None,
        me_port: int | None = None,
        history: RuleHistory | None = None,
    ) -> None:
        """Nothing is read before ``start`` or ``open``."""
        self._history = history
        self._file, self._last_good, self._report = file, last_good, report
        self._me, self._me_port = me, me_port
        self._rules = Rules()
        self._problems: tuple[str, ...] = ()
        self._signature: _Signature | None = None
        self._content: bytes | None = None
        self._looking = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rule-keeper", daemon=True)

    def current(self) -> Rules:
        """The rules that are in force; a frozen value, safe from any thread."""
        return self._rules

    @property
    def problem(self) -> str | None:
        """Why the routing file is not what is in force, in one line; None if it is."""
        return str(RulesRefused(*self._problems)) if self._problems else None

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong with the routing file, a line each."""
        return self._problems

    def start(self) -> None:
        """``open``, then go on looking."""
        self.open()
        self._thread.start()

    def stop(self) -> None:
        """End the looking."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def open(self) -> None:
        """Read the rules for the first time; an absent file is written empty if there are no rules from before.

        Raises RulesRefused if the file is bad and there are no good rules from before, OSError if an absent one cannot
        be written.
        """
        if not os.path.lexists(self._file):
            if self._last_good.exists():
                self._gone()
                return
            if not self._file.parent.is_dir():
                raise RulesRefused(f"{self._file}: there is no folder {self._file.parent} for the rules (--routing)")
            write_atomic(self._file, EMPTY.encode())
            self._report("warning", f"{self._file} was not there; an empty one was written: nothing is routed")
        if not self.refresh():
            self._fall_back()

    def _gone(self) -> None:
        """The file is gone since the last start: that is no order to route nothing any more."""
        self._refuse((f"{self._file} is gone; {GONE}",))
        self._fall_back()

    def refresh(self) -> bool:
        """Look at the file, once; False if it is not what is in force."""
        with self._looking:
            try:
                self._look()
            except RulesRefused as exc:
                self._refuse(exc.problems)
            except FileNotFoundError:
                self._signature = self._content = None
                self._refuse((f"{self._file} is gone; {GONE}",))
            except OSError as exc:
                self._signature = self._content = None  # whatever comes back is looked at
                self._refuse((f"{self._file}: {exc.strerror or exc}",))
            return not self._problems

    def stand_for(self, me: str | None, me_port: int | None) -> None:
        """Something else that ``$me`` and ``$port`` stand for, from now on: the file is read anew."""
        with self._looking:
            if (me, me_port) == (self._me, self._me_port):
                return
            self._me, self._me_port = me, me_port
            self._signature = self._content = None
        self.refresh()

    def _watch(self) -> None:
        while not self._stopped.wait(PAUSE):
            self.refresh()

    def _look(self) -> None:
        """Take the file's rules if its content has changed; a file that is as it was costs one ``stat``."""
        state = os.stat(self._file)
        signature = (state.st_mtime_ns, state.st_size, state.st_ino)
        if signature == self._signature:
            return
        if not stat.S_ISREG(state.st_mode):
            raise OSError(f"not a regular file: {self._file.name}")
        with self._file.open("rb") as file:
            content = file.read(LARGEST + 1)
        settled = time.time() - state.st_mtime > SETTLED
        self._signature = signature if settled else None
        if content != self._content:
            self._content = content
            self._take(parse(decode(content, str(self._file)), str(self._file), self._me, self._me_port))
            self._keep(content)

    def _take(self, rules: Rules) -> None:
        self._rules, self._problems = rules, ()
        count = len(rules.rules)
        self._report("info", f"{self._file}: {count} {'rule is' if count == 1 else 'rules are'} in force")
        for warning in rules.warnings:
            self._report("warning", warning)

    def _keep(self, content: bytes) -> None:
        """Keep the good text for the next start; that it cannot be kept is no reason not to use it."""
        try:
            if not self._last_good.exists() or self._last_good.read_bytes() != content:
                write_atomic(self._last_good, content)
            if self._history is not None:
                self._history.note(decode(content, str(self._file)), "", BY_HAND)
        except OSError as exc:
            self._report("warning", f"the last good rules cannot be kept in {self._last_good}: {exc.strerror or exc}")

    def _refuse(self, problems: tuple[str, ...]) -> None:
        """Stay with what is in force; each distinct trouble is reported once."""
        if problems == self._problems:
            return
        self._problems = problems
        for problem in problems[:MOST_REPORTED]:
            self._report("error", problem)
        if os.path.lexists(self._file):
            self._report("error", f"{self._file} is not used until it is mended")

    def _fall_back(self) -> None:
        """At the start: take the last good rules in place of a bad file; raises RulesRefused if there are none."""
        try:
            text = decode(self._last_good.read_bytes(), str(self._last_good))
            self._rules = parse(text, str(self._last_good), self._me, self._me_port)
        except (OSError, RulesRefused):
            raise RulesRefused(*self._problems) from None
        self._report("warning", f"the last good rules, kept in {self._last_good}, are in force")

"""Keeps the images of the drop-ins on this machine: brought when a processor is switched on, never when a job runs."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from magickbox.convention import Image
from magickbox.dropins.folder import Dropins
from magickbox.dropins.pins import Pin, read_pins, source_of, why_not, with_own_steps, write_pins
from magickbox.engines.container_cli import ContainerCli, Finder
from magickbox.engines.image_store import SEEN, NotBrought, bring, close_all, known, look_into
from magickbox.errors import EngineDown
from magickbox.logs import Note
from magickbox.processor import Processor

AGAIN = 300.0  # seconds until an image that could not be had is asked for again
SOON = 15.0  # the same, if it is the engine that does not work


class Images:
    """What each drop-in with an image runs, by a pin that lasts until it is switched off or asks for another image."""

    def __init__(
        self, finder: Finder, box: Path, state: Path, on_change: Callable[[], None], note: Note, again: float = AGAIN
    ) -> None:
        """``state`` is the folder of images.json and of what buckets keep; nothing is done before ``start``."""
        self.finder, self._box, self._state, self._again = finder, str(box.absolute()), state, again
        self._on_change, self._note = on_change, note
        self._path = state / "images.json"
        self._pins: Mapping[str, Pin] = read_pins(self._path)
        self._checked: set[str] = set()
        self._tidy = False
        self._doubts: dict[str, Callable[[], str | None]] = {}
        self._off: list[str] = []  # names seen switched off since the last look, also if they are on again
        self._wanted: tuple[Processor, ...] = ()
        self._whole, self._first = False, True
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="images", daemon=True)

    @property
    def pins(self) -> Mapping[str, Pin]:
        """What is known now, by the drop-in's name; never changed in place."""
        return self._pins

    def start(self) -> None:
        """Begin to bring what is wanted, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Bring nothing more; a pull that is under way is left to itself."""
        self._stopped.set()
        self._wake.set()

    def want(self, dropins: Dropins) -> None:
        """Tell what lies in the processors folder now; ``on_change`` is told in any case."""
        if not dropins.away:
            self._wanted, self._whole = with_own_steps(dropins.good), not dropins.bad
            self._off.extend(one.name for one in dropins.good if not one.enabled)
            self._wake.set()
        self._on_change()

    def why_not(self, processor: Processor) -> str | None:
        """Why a processor has to wait for its image; None if it has not."""
        return why_not(processor, self._pins)

    def image_of(self, processor: Processor) -> Image | None:
        """The image that a run of this processor takes, if it is here."""
        pin = self._pins.get(processor.name)
        return pin.image if pin is not None and pin.problem is None else None

    def memory_of(self, processor: Processor) -> Path:
        """The folder that a processor keeps from run to run."""
        return self._state / "memory" / re.sub(r"^\.", "%2E", quote(processor.name, safe=" "))

    def gone(self, processor: Processor) -> None:
        """The engine says that the image is not there any more: look again."""
        self._checked.discard(processor.name)
        self._put(processor.name, Pin(source_of(processor), problem="it is gone; it is looked for again"))
        self._wake.set()

    def doubt(self, processor: Processor, why: str, trial: Callable[[], str | None]) -> None:
        """A run could not be started on this machine: its processor waits until ``trial`` says no reason any more."""
        pin = self._pins.get(processor.name)
        if pin is not None and pin.problem is None:
            self._doubts[processor.name] = trial
            self._checked.discard(processor.name)
            self._tell(processor, Pin(pin.source, pin.image, why, pin.ours))
            self._wake.set()

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            pause = self.look_round()
            self._wake.wait(pause)

    def look_round(self) -> float:
        """Bring what is missing, one after the other; return the seconds until the next look.

        The thread of ``start`` does it again and again; without that, it is done here and now.
        """
        wanted = {one.name: one for one in self._wanted if one.image is not None and one.enabled}
        while self._off:
            name = self._off.pop()
            self._checked.discard(name)
            if name in wanted or not self._whole:
                self._put(name, None)
        if self._whole:  # a drop-in that is being copied is bad for a moment, and no reason to forget anything
            self._let_go(wanted)
        pause = self._again
        for name, one in wanted.items():
            pin = self._pins.get(name)
            fresh = pin is not None and pin.source == source_of(one) and pin.problem is None and name in self._checked
            if not fresh and not self._stopped.is_set():
                try:
                    self._settle(one, pin)
                except EngineDown as exc:
                    pause = min(SOON, pause)
                    self.finder.lost()
                    kept = (pin.image, pin.ours) if pin is not None and pin.source == source_of(one) else (None, False)
                    self._tell(one, Pin(source_of(one), kept[0], str(exc), kept[1]))
                except Exception as exc:  # noqa: BLE001  # worker boundary: one bad image must not keep the others
                    self._tell(one, Pin(source_of(one), None, str(exc) if isinstance(exc, NotBrought) else repr(exc)))
        return pause

    def _settle(self, one: Processor, pin: Pin | None) -> None:
        """Pin the image of one drop-in: the one it had, if that is still here and still what it asks for."""
        cli, source = self.finder.get(), source_of(one)
        if not self._tidy:
            close_all(cli, self._box)
            self._tidy = True
        if pin is not None and pin.source == source and pin.image is not None and known(cli, pin.image.id) is not None:
            if (why := self._doubts.get(one.name, _no_doubt)()) is not None:
                raise EngineDown(why)
            self._doubts.pop(one.name, None)
            self._checked.add(one.name)
            self._put(one.name, Pin(source, self._seen(cli, one, pin.image), None, pin.ours))
            return
        if pin is None or pin.problem is None:
            self._put(one.name, Pin(source, None, "it is being brought"))
        began = time.monotonic()
        brought = bring(cli, one)
        image = look_into(cli, one.image or "", self._box, self.memory_of(one))
        self._checked.add(one.name)
        self._put(one.name, Pin(source, image, None, brought))
        facts = {"processor": one.name, "image": image.name, "id": image.id, "seconds": round(time.monotonic() - began)}
        self._note("info", "image", facts)
        if image.info_problem:
            passed_over = f"what it says of itself was passed over: {image.info_problem}"
            self._note("warning", "image", {"processor": one.name, "image": image.name, "reason": passed_over})

    def _seen(self, cli: ContainerCli, one: Processor, image: Image) -> Image:
        """A pinned image with all that this version of the box looks at."""
        if image.seen == SEEN:
            return image
        return replace(look_into(cli, image.id, self._box, self.memory_of(one)), name=image.name, digest=image.digest)

    def _tell(self, one: Processor, pin: Pin) -> None:
        before = self._pins.get(one.name)
        if before is None or before.problem != pin.problem:
            self._note("warning", "image", {"processor": one.name, "image": one.image, "reason": pin.problem})
        self._put(one.name, pin)

    def _put(self, name: str, pin: Pin | None) -> None:
        pins = {**self._pins, name: pin} if pin is not None else {k: v for k, v in self._pins.items() if k != name}
        if pins != self._pins:
            self._pins = {key: value for key, value in pins.items() if value is not None}
            try:
                write_pins(self._path, self._pins)
            except OSError as exc:
                self._note("warning", "image", {"reason": f"images.json cannot be written: {exc.strerror}"})
            self._on_change()

    def _let_go(self, wanted: Mapping[str, Processor]) -> None:
        """Forget what is switched off or gone.

        An image that the box had brought for a drop-in that is gone is removed, but only at the start of the box: a
        folder that is moved about must not cost a day of pulling.
        """
        there = {one.name for one in self._wanted}
        for name, pin in list(self._pins.items()):
            if name in wanted:
                continue
            self._checked.discard(name)
            self._doubts.pop(name, None)
            self._put(name, None)
            used = {other.image.id for other in self._pins.values() if other.image is not None}
            if self._first and name not in there and pin.ours and pin.image is not None and pin.image.id not in used:
                self._remove(name, pin.image)
        self._first = False

    def _remove(self, name: str, image: Image) -> None:
        try:
            answer = self.finder.get().ask("image", "rm", image.id)
        except EngineDown:
            return
        if answer.code == 0:
            self._note("info", "image", {"processor": name, "image": image.name, "removed": image.id})


def _no_doubt() -> str | None:
    """Of a processor that nothing kept from starting."""
    return None

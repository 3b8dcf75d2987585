"""Worker processes that convert files, several at once; implements ``transcoder.Transcoder``.

A worker that dies, takes too long or too much memory costs its file and nothing else: the next file gets a new one.
"""

import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from uuid import uuid4

from magickbox import transfersyntax as ts
from magickbox.pixels import codecs
from magickbox.transcoder import CannotTranscode, Transcoded
from magickbox.workers.pool import Failed, Limits, Why, Workers

_PLACE, _RESULT = "converting-", "converted-"


class WorkerPool:
    """Converts files in processes of their own, below ``folder``, which has to be there and is for it alone.

    What an earlier pool left in there is removed.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self._folder = folder
        self._workers = Workers("magickbox.transcoding.worker", limits or Limits())
        for left in (*folder.glob(f"{_PLACE}*"), *folder.glob(f"{_RESULT}*.dcm")):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def targets(self, stored: str) -> Collection[str]:
        """See ``transcoder.Transcoder.targets``; what would need a codec that is not installed is left out."""
        if stored not in ts.NATIVE and not codecs.can_decode(stored):
            return ()
        every = (*ts.LOSSLESS_TARGETS, ts.JPEG_2000, ts.HTJ2K, ts.JPEG_LS_NEAR)
        native = (each for each in every if each in ts.NATIVE)
        return (*native, *(each for each in every if codecs.can_encode(each) and not codecs.missing(each, encode=True)))

    def transcode(self, source: Path, stored: str, targets: Sequence[str]) -> Transcoded | CannotTranscode:
        """See ``transcoder.Transcoder.transcode``; waits for a free worker."""
        place = Path(tempfile.mkdtemp(prefix=_PLACE, dir=self._folder))
        try:
            request: dict[str, object] = {
                "source": str(source.absolute()),
                "stored": stored,
                "targets": list(targets),
                "folder": str(place.absolute()),
            }
            answer = self._ask(request, place)
            if isinstance(answer, CannotTranscode):
                return answer
            if not answer.path.is_relative_to(place.absolute()):
                raise RuntimeError("a worker named a file that is not its own")  # never move a job's file away
            final = self._folder / f"{_RESULT}{uuid4().hex}.dcm"
            os.rename(answer.path, final)
            return Transcoded(final, answer.transfer_syntax)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def close(self) -> None:
        """End all workers, at once; who waits for one gets CannotTranscode for now."""
        self._workers.close()

    def _ask(self, request: dict[str, object], place: Path) -> Transcoded | CannotTranscode:
        def again() -> None:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()

        answer = self._workers.ask(request, again)
        if isinstance(answer, Failed):
            return _in_words(answer)
        if "path" in answer:
            return Transcoded(Path(answer["path"]), answer["syntax"])
        return CannotTranscode(answer["reason"], answer["passing"])


def _in_words(failed: Failed) -> CannotTranscode:
    if failed.why is Why.STOPPING:
        return CannotTranscode("the box stops", passing=True)
    if failed.why is Why.NO_PROCESS:
        return CannotTranscode(f"no process can be started: {failed.detail}", passing=True)
    if failed.why is Why.TOO_LONG:
        return CannotTranscode(f"it takes longer than {failed.detail} to convert")
    return CannotTranscode(f"the process that converted it ended with {failed.detail}")

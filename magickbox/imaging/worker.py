"""The worker process: renders one frame after another, as ``imaging.pictures`` asks."""

import errno
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from magickbox.imaging.render import perform
from magickbox.imaging.trouble import NoPicture
from magickbox.pixels.trouble import Impossible
from magickbox.workers.serving import serve

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SHORT = 200


def main() -> None:
    """Serve requests until the input ends."""
    warnings.simplefilter("ignore")  # pydicom's, about every file that is not quite as it should be
    serve(sys.argv[1:], _answer)


def _answer(request: Mapping[str, Any]) -> Mapping[str, object]:
    if request["what"] == "nothing":
        return {"done": True}
    try:
        Path(str(request["to"])).write_bytes(perform(request))
    except (NoPicture, Impossible) as exc:
        return _cannot(str(exc))
    except MemoryError:
        return _cannot("it needs more memory than the limit for one picture")
    except OSError as exc:
        passing = exc.errno in _NO_ROOM or isinstance(exc, FileNotFoundError)
        return _cannot(f"the file cannot be read: {exc.strerror or type(exc).__name__}", passing=passing)
    except RecursionError:
        return _cannot("its header is nested too deeply")
    except BaseException as exc:  # noqa: BLE001  a codec's own error, a panic of one in Rust too: what it says is told
        return _cannot(f"its pixel data cannot be decoded: {_in_short(exc)}")
    return {"done": True}


def _cannot(reason: str, *, passing: bool = False) -> Mapping[str, object]:
    return {"reason": reason, "passing": passing}


def _in_short(exc: BaseException) -> str:
    """What pydicom and codecs say is about the pixels' attributes; the first sentence will do."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    if text.startswith("cannot reshape array"):
        return "they are shorter than its header says"
    return text[:_SHORT] + ("…" if len(text) > _SHORT else "")


if __name__ == "__main__":
    main()

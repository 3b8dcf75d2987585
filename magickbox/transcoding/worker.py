"""The worker process: converts one file after another, as ``transcoding.pool`` asks."""

import errno
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from magickbox.errors import UnreadableHeader
from magickbox.pixels.trouble import Impossible
from magickbox.transcoding.convert import convert
from magickbox.workers.serving import serve

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
Answer: TypeAlias = Mapping[str, str | bool]


def main() -> None:
    """Serve requests until the input ends."""
    serve(sys.argv[1:], _answer)


def _answer(request: Mapping[str, object]) -> Answer:
    folder, targets = Path(str(request["folder"])), request["targets"]
    assert isinstance(targets, Sequence)
    reasons: dict[str, None] = {}
    for number, target in enumerate(targets):
        place = folder / str(number)
        answer = _try(Path(str(request["source"])), str(request["stored"]), str(target), place)
        if "path" in answer or answer.get("passing"):
            return answer
        reasons[str(answer["reason"])] = None
    return {"reason": "; ".join(reasons) or "nothing to convert to", "passing": False}


def _try(source: Path, stored: str, target: str, folder: Path) -> Answer:
    try:
        folder.mkdir()
        return {"path": str(convert(source, stored, target, folder)), "syntax": target}
    except Impossible as exc:
        return {"reason": str(exc), "passing": False}
    except UnreadableHeader as exc:
        return {"reason": f"the file cannot be read: {exc}", "passing": False}
    except MemoryError:
        return {"reason": "it needs more memory than the limit for one file", "passing": False}
    except OSError as exc:
        full = exc.errno in _NO_ROOM
        return {"reason": f"the file cannot be converted: {exc.strerror or type(exc).__name__}", "passing": full}
    except BaseException as exc:  # noqa: BLE001  a codec's own error, a panic of one in Rust too: its kind is told
        return {"reason": f"its pixel data cannot be converted ({type(exc).__name__})", "passing": False}


if __name__ == "__main__":
    main()

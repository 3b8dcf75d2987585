"""How a rule names the element it looks at: a tag, a keyword, a private tag, or a path of them through sequences."""

import difflib
import re
from dataclasses import dataclass

from pydicom.datadict import keyword_dict

_TAG = re.compile(r"([0-9a-f]{4}),\s*([0-9a-f]{4})", re.IGNORECASE)
_PRIVATE = re.compile(r"([0-9a-f]{4}),(.+),\s*([0-9a-f]{2})", re.IGNORECASE)
# A slash separates steps where a step begins behind it: a private creator may hold slashes of its own.
_SEPARATOR = re.compile(r"/(?=\s*[0-9a-fA-F]{4},|[A-Z][A-Za-z0-9]*\s*(?:/|$)|\s*$)")
_PIXELS = 0x7FE0
MAX_STEPS = 16


@dataclass(frozen=True)
class TagStep:
    """One element: group and element number; with ``creator``, ``element`` is the low byte in the creator's block."""

    group: int
    element: int
    creator: str | None = None

    @property
    def tag(self) -> int:
        """The tag as one number; meaningless for a private step, whose block the file assigns."""
        return self.group << 16 | self.element

    def __str__(self) -> str:
        """As the rules write it: ``0008,103E`` or ``0029,SIEMENS CSA HEADER,10``."""
        if self.creator is None:
            return f"{self.group:04X},{self.element:04X}"
        return f"{self.group:04X},{self.creator},{self.element:02X}"


@dataclass(frozen=True)
class TagPath:
    """The steps from the dataset through sequences, any item of each, to the element that is looked at."""

    steps: tuple[TagStep, ...]

    def __str__(self) -> str:
        """As the rules write it, keywords spelt out as tags."""
        return "/".join(map(str, self.steps))

    @property
    def names_the_patient(self) -> bool:
        """True if the element tells who the patient is, so that not even a pattern on it belongs into a log."""
        return any(step.group == 0x0010 for step in self.steps)


def parse_tag_path(text: str) -> TagPath:
    """Read a tag, keyword, private tag or path; raises ValueError with a sentence for a person."""
    steps = tuple(_parse_step(part.strip()) for part in _SEPARATOR.split(text))
    if len(steps) > MAX_STEPS:
        raise ValueError(f"a path has at most {MAX_STEPS} steps")
    return TagPath(steps)


def _parse_step(text: str) -> TagStep:
    if found := _TAG.fullmatch(text):
        step = TagStep(int(found[1], 16), int(found[2], 16))
    elif found := _PRIVATE.fullmatch(text):
        step = TagStep(int(found[1], 16), int(found[3], 16), found[2].strip())
        if step.group % 2 == 0:
            raise ValueError(f"'{text}' has a private creator, but {step.group:04X} is even and so not a private group")
    elif text and text in keyword_dict:  # retired elements without a keyword are in there as ""
        step = TagStep(*divmod(keyword_dict[text], 0x10000))
    else:
        raise ValueError(_unknown(text))
    if step.group == _PIXELS:
        raise ValueError("pixel data cannot be looked at")
    return step


def _unknown(text: str) -> str:
    expected = "expected gggg,eeee, a keyword of the DICOM dictionary, or gggg,creator,ee"
    near = difflib.get_close_matches(text, keyword_dict, n=1)
    return f"'{text}' is not a tag" + (f", did you mean {near[0]}?" if near else f": {expected}")

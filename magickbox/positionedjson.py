"""Reads JSON as people write it, and remembers where everything stands, so that errors name line and column.

Beyond RFC 8259 it takes ``//`` comments and trailing commas; it does not take a key twice, NaN, or unpaired surrogates.
"""

import re
from dataclasses import dataclass, field
from json import JSONDecodeError, dumps
from json.decoder import scanstring  # type: ignore[attr-defined]  # the standard library's own, left out of its stubs
from typing import Any

MAX_DEPTH = 64
MAX_DIGITS = 300

_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\n]*)*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![\w.])")
_WORD = re.compile(r"\w+")
_LETTER = re.compile(r'\\u[0-9a-fA-F]{4}|\\.|[^"\\]', re.DOTALL)
_CONSTANTS = {"true": True, "false": False, "null": None}

Path = tuple[str | int, ...]


class NotJson(Exception):
    """A text is not JSON; ``offset`` is where that shows."""

    def __init__(self, said: str, offset: int) -> None:
        """Keep the sentence and its place."""
        super().__init__(said)
        self.said, self.offset = said, offset


@dataclass
class Document:
    """A JSON text's value, and the offsets of its parts by path: of the member's key, and of the value.

    ``repeated`` has (path, offset) of each key that was there before.
    """

    text: str
    value: Any = None
    keys: dict[Path, int] = field(default_factory=dict)
    values: dict[Path, int] = field(default_factory=dict)
    repeated: list[tuple[Path, int]] = field(default_factory=list)

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """Where an offset is, both counted from 1."""
        return self.text.count("\n", 0, offset) + 1, offset - self.text.rfind("\n", 0, offset)

    def inside_string(self, offset: int, index: int) -> int:
        """The offset of the character ``index`` of the string that begins at ``offset``, escapes considered."""
        place = offset + 1
        for _ in range(index):
            letter = _LETTER.match(self.text, place)
            if letter is None:
                break
            place = letter.end()
        return place


def path_text(path: Path) -> str:
    """A path as people write it: ``routing[0].send[1].success.PORT``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{dumps(part, ensure_ascii=False)}]"
    return text


def read(text: str) -> Document:
    """Parse a text; raises NotJson."""
    document = Document(text)
    reader = _Reader(document)
    document.value = reader.value((), 0)
    reader.blank()
    if reader.at < len(text):
        raise NotJson("expected nothing more after the end", reader.at)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise NotJson("unpaired surrogate", exc.start) from None
    return document


class _Reader:
    """Descends through the text; nesting is limited, so recursion is."""

    def __init__(self, document: Document) -> None:
        self.document, self.text, self.at = document, document.text, 0

    def blank(self) -> None:
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def next(self) -> str:
        """The next character that is not blank; empty at the end."""
        self.blank()
        return self.text[self.at : self.at + 1]

    def fail(self, expected: str) -> NotJson:
        found = self.next()
        if not found:
            return NotJson(f"expected {expected}, but the file ends here", self.at)
        return NotJson(f"expected {expected}, found '{found}'", self.at)

    def value(self, path: Path, depth: int) -> Any:
        first = self.next()
        self.document.values[path] = self.at
        if depth > MAX_DEPTH:
            raise NotJson(f"nested more than {MAX_DEPTH} deep", self.at)
        if first == "{":
            return self.object(path, depth)
        if first == "[":
            return self.array(path, depth)
        if first == '"':
            return self.string()
        return self.number() if first == "-" or first.isdigit() else self.constant()

    def object(self, path: Path, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self.at += 1
        while self.next() != "}":
            if self.next() != '"':
                raise self.fail('a key in "quotes" or }')
            place = self.at
            key = self.string()
            here = (*path, key)
            if key in members:
                self.document.repeated.append((here, place))
            self.document.keys.setdefault(here, place)
            if self.next() != ":":
                raise self.fail(": after the key")
            self.at += 1
            members[key] = self.value(here, depth + 1)
            self.comma("}")
        self.at += 1
        return members

    def array(self, path: Path, depth: int) -> list[Any]:
        elements: list[Any] = []
        self.at += 1
        while self.next() != "]":
            elements.append(self.value((*path, len(elements)), depth + 1))
            self.comma("]")
        self.at += 1
        return elements

    def comma(self, end: str) -> None:
        """Pass over the comma that must stand here unless the end does."""
        found = self.next()
        if found == ",":
            self.at += 1
        elif found != end:
            raise self.fail(f"a comma or {end}")

    def string(self) -> str:
        start = self.at
        try:
            text, self.at = scanstring(self.text, start + 1, True)
        except JSONDecodeError as exc:
            raise NotJson(f"expected a text that ends on its line with a quote: {exc.msg}", exc.pos) from None
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise NotJson("half of a surrogate pair is no text", start)
        return str(text)

    def number(self) -> int | float:
        found = _NUMBER.match(self.text, self.at)
        if found is None or len(found[0]) > MAX_DIGITS:
            raise self.fail("a number")
        self.at = found.end()
        return int(found[0]) if found[1] is None and found[2] is None else float(found[0])

    def constant(self) -> bool | None:
        found = _WORD.match(self.text, self.at)
        if found is None or found[0] not in _CONSTANTS:
            raise self.fail('a value: "text", a number, true, false, { or [')
        self.at = found.end()
        return _CONSTANTS[found[0]]

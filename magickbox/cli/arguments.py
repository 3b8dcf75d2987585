"""How lists, words and numbers on the command line are read."""

import argparse
from collections.abc import Callable
from typing import TypeVar

_Part = TypeVar("_Part")


def list_of(read: Callable[[str], _Part]) -> Callable[[str], list[_Part]]:
    """A list, separated by commas."""
    return lambda text: [read(part.strip()) for part in text.split(",")]


def one_of(*words: str) -> Callable[[str], str]:
    """One of these words."""

    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(words)}")
        return text

    return read


def whole(text: str) -> int:
    """A whole number from 1 on, below a million."""
    if not text.isdigit() or not 1 <= int(text) < 10**6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)

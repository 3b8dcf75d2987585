"""The routing chapter: every example in it loads, and it tells of every key."""

import re
from pathlib import Path

import pytest

from magickbox.rules.check import schema
from magickbox.rules.file import RulesRefused, parse

CHAPTER = (Path(__file__).parent.parent / "docs/routing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: re.findall(r'"name": "(.*?)"', text)[0])
def test_every_example_loads_without_a_warning(text: str) -> None:
    rules = parse(text, "docs/routing.md", me="10.0.0.5", me_port=104)
    assert rules.rules
    assert rules.warnings == ()


def test_there_are_examples_and_no_other_fences_hide_any() -> None:
    assert len(EXAMPLES) >= 10
    assert len(re.findall(r"^```\w", CHAPTER, re.MULTILINE)) == len(EXAMPLES) + 1


def test_every_key_is_explained() -> None:
    keys = {
        *schema()["properties"],
        *schema()["$defs"]["rule"]["properties"],
        *schema()["$defs"]["endpoint"]["properties"],
    }
    tables = "\n".join(line for line in CHAPTER.splitlines() if line.startswith("| `"))
    assert {key for key in keys if f"`{key}`" not in tables} == set()


def test_mistakes_are_said_as_the_chapter_shows() -> None:
    shown = re.findall(r"^```text\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL)[0].splitlines()
    text = """{ "routing": [
  {
    "name": "x",
                    "AETitelIn": "ProcRSI",
    "send": [
      { "success": {
        "IP": "10.0.0.5",                "PORT": "70000", "AETitleSender": "A", "AETitleTo": "B" } } ] } ] }"""
    with pytest.raises(RulesRefused) as caught:
        parse(text, "routing.json")
    assert [re.sub(r"column \d+", "", line) for line in caught.value.problems] == [
        re.sub(r"column \d+", "", line) for line in shown
    ]

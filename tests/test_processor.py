"""What a proc.json may be, beyond what docs/processors.md shows."""

import pytest

from magickbox.processor import MAX_MESSAGE, end_in_words, judge_run, read_proc_json


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (rb'[{"success": "\ud800"}]', "half of a character"),
        (rb'[{"success": "success", "message": "\udfff"}]', "half of a character"),
        (rb'[{"success": "success"}, {"deep": [{"\ud800": 1}]}]', "half of a character"),
        (b'[{"success": "success", "value": NaN}]', "NaN is no number"),
        (b'[{"success": "success", "value": -Infinity}]', "-Infinity is no number"),
        (b'[{"success": "success", "value": 1e999}]', "not JSON"),
        (b'[{"success": "' + b"x" * 257 + b'"}]', "more than 256 characters"),
        (b'[{"success": "success", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "not JSON"),
        (b'[{"success": "success", "deep": ' + b"[" * 200 + b"]" * 200 + b"}]", "more than 100 levels"),
        (b'[{"success": "success", "n": ' + b"9" * 10_000 + b"}]", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_what_could_not_be_kept_is_refused(raw: bytes, why: str) -> None:
    said = read_proc_json(raw)
    assert isinstance(said, str)
    assert why in said
    said.encode()
    outcome = judge_run(0, raw)
    assert (outcome.success, outcome.invalid) == ("failed", said)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert read_proc_json(rb'[{"success": "\ud83d\ude00"}]') == ({"success": "\U0001f600"},)


def test_a_long_message_is_cut() -> None:
    outcome = judge_run(0, b'[{"success": "success", "message": "' + b"x" * 10_000 + b'"}]')
    assert len(outcome.message) == MAX_MESSAGE
    assert len(outcome.as_proc_json()[0]["message"]) == MAX_MESSAGE


def test_an_end_in_words_never_says_none() -> None:
    told = [end_in_words(code, line) for code in (3, -9, None) for line in ("", "last")]
    assert told == ["exit code 3", "exit code 3: last", "killed by signal 9", "killed by signal 9: last",
                    "it has no exit code", "last"]  # fmt: skip

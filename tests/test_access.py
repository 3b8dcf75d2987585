"""Admission: who may open an association, in which order the reasons count, and how the setting is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magickbox.access import Access, Caller, read_caller
from magickbox.errors import ConfigError
from magickbox.intake import CALLED_NOT_RECOGNIZED, CALLING_NOT_RECOGNIZED, LIMIT_EXCEEDED, Refusal, Request


def request(calling: str = "PACS", called: str = "BOX", address: str = "10.0.0.5") -> Request:
    return Request(calling, called, (address, 50123))


def allowed(*entries: str) -> Access:
    return Access(callers=tuple(read_caller(entry) for entry in entries))


def code(refusal: Refusal | None) -> tuple[int, int, int] | None:
    return None if refusal is None else (refusal.result, refusal.source, refusal.reason)


@pytest.mark.parametrize("calling", ["PACS", "", "any thing", "żółć"])
def test_without_a_list_anyone_may_come(calling: str) -> None:
    assert Access().judge(request(calling), ()) is None


@pytest.mark.parametrize(
    ("entry", "calling", "address", "comes_in"),
    [
        ("PACS", "PACS", "10.0.0.5", True),
        ("PACS", " pacs ", "10.0.0.5", True),
        ("PACS", "PACS2", "10.0.0.5", False),
        ("PACS@10.0.0.5", "PACS", "10.0.0.5", True),
        ("PACS@10.0.0.5", "PACS", "10.0.0.6", False),
        ("PACS@10.0.0.5", "CT1", "10.0.0.5", False),
        ("*@10.0.0.0/24", "whoever", "10.0.0.200", True),
        ("*@10.0.0.0/24", "whoever", "10.0.1.1", False),
        ("*@10.0.0.77/24", "whoever", "10.0.0.1", True),
        ("*@fd00::/8", "whoever", "fd12::1", True),
        ("*@fe80::/10", "whoever", "fe80::1%eth0", True),
        ("*@10.0.0.0/24", "whoever", "fd12::1", False),
        ("*", "whoever", "192.0.2.1", True),
        ("*", "", "192.0.2.1", True),
    ],
)
def test_a_list_lets_in_who_stands_on_it(entry: str, calling: str, address: str, comes_in: bool) -> None:
    refusal = allowed(entry).judge(request(calling, address=address), ())
    assert code(refusal) == (None if comes_in else CALLING_NOT_RECOGNIZED)


def test_one_entry_that_fits_is_enough() -> None:
    assert allowed("CT1", "PACS@10.0.0.5").judge(request(), ()) is None


def test_an_empty_list_lets_nobody_in() -> None:
    assert code(Access(callers=()).judge(request(), ())) == CALLING_NOT_RECOGNIZED


def test_an_unknown_called_title() -> None:
    access = Access(knows=lambda called: called == "ProcRSI")
    assert access.judge(request(called="ProcRSI"), ()) is None
    assert code(access.judge(request(called="Other"), ())) == CALLED_NOT_RECOGNIZED


@pytest.mark.parametrize(("number", "comes_in"), [(0, True), (1, True), (2, False), (3, False)])
def test_the_limit(number: int, comes_in: bool) -> None:
    refusal = Access(max_associations=2).judge(request(), ["CT"] * number)
    assert code(refusal) == (None if comes_in else LIMIT_EXCEEDED)
    assert refusal is None or str(number) in refusal.why


def test_the_limit_of_one_caller() -> None:
    access = Access(max_per_caller=2)
    assert access.judge(request("CT1"), ["CT1", "CT2", "CT2"]) is None
    refusal = access.judge(request("CT1"), ["CT1", "ct1 ", "CT2"])
    assert code(refusal) == LIMIT_EXCEEDED
    assert refusal is not None
    assert "max_per_caller" in refusal.why


def test_no_room_is_a_passing_refusal() -> None:
    refusal = Access().judge(request(), (), "the disk is full (min_free)")
    assert code(refusal) == LIMIT_EXCEEDED
    assert refusal is not None
    assert "min_free" in refusal.why


def test_a_stranger_learns_nothing_of_the_load() -> None:
    access = Access(0, (read_caller("PACS"),), lambda _called: False)
    assert code(access.judge(request("stranger"), ["X"] * 9, "full")) == CALLING_NOT_RECOGNIZED
    assert code(access.judge(request("PACS"), ["X"] * 9, "full")) == CALLED_NOT_RECOGNIZED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no AE title"),
        ("  ", "no AE title"),
        ("@10.0.0.1", "no AE title"),
        ("PACS@", "PACS@"),
        ("PACS@here", "here"),
        ("PACS@10.0.0.0/99", "10.0.0.0/99"),
        ("PACS@10.0.0", "10.0.0"),
    ],
)
def test_what_is_no_entry(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as told:
        read_caller(text)
    assert "calling_ae_allowed" in str(told.value)


def test_blanks_around_do_not_matter() -> None:
    assert read_caller("  PACS @ 10.0.0.5 ") == read_caller("PACS@10.0.0.5")
    assert read_caller(" * ") == Caller(None, None)


@given(st.text(max_size=20), st.ip_addresses().map(str), st.text(max_size=16))
def test_reading_and_judging_never_fail_otherwise(text: str, address: str, calling: str) -> None:
    try:
        caller = read_caller(text)
    except ConfigError:
        return
    assert caller.lets_in(request(calling, address=address)) in (True, False)

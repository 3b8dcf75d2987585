"""The routing file: what it may look like, what it comes to, and what is said about one that is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from magickbox.destination import DicomDestination, FolderDestination, Secret, StowDestination, Tls
from magickbox.pathpattern import DEFAULT_PATTERN
from magickbox.positionedjson import NotJson, read
from magickbox.resultcheck import CHECKS
from magickbox.routing import Rule, Rules
from magickbox.rules.check import schema
from magickbox.rules.file import EMPTY, LARGEST, RulesRefused, load, parse
from magickbox.transfersyntax import JPEG_2000_LOSSLESS, RLE, TransferSyntaxes

ROOT = Path(__file__).parent.parent
ENDPOINT = {"IP": "10.0.0.5", "PORT": "403", "AETitleSender": "me", "AETitleTo": "PACS"}


def rule(**changes: Any) -> dict[str, Any]:
    return {"name": "r", "send": [{"success": ENDPOINT}], **changes}


def entry(**changes: Any) -> dict[str, Any]:
    return rule(send=[{"success": {**ENDPOINT, **changes}}])


def text_of(*rules: dict[str, Any]) -> str:
    return json.dumps({"routing": rules}, indent=1)


def one(*rules: dict[str, Any], **settings: Any) -> Rule:
    return parse(text_of(*rules), "routing.json", **settings).rules[0]


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(RulesRefused) as caught:
        parse(text, "routing.json")
    return caught.value.problems


def test_the_schema_is_valid_and_one() -> None:
    Draft202012Validator.check_schema(dict(schema()))
    assert (ROOT / "routing.schema.json").read_bytes() == (ROOT / "magickbox/routing.schema.json").read_bytes()


def test_every_part_of_the_schema_has_a_title_and_a_description() -> None:
    def parts(node: Any) -> Any:
        for key, value in node.get("properties", {}).items():
            yield key, value
            yield from parts(value)

    for name, definition in [*schema()["$defs"].items(), ("", schema())]:
        for key, part in [(name, definition), *parts(definition)]:
            assert {"title", "description"} <= part.keys(), key


def test_the_example_at_the_root_is_valid_json_and_loads() -> None:
    path = ROOT / "routing.example.json"
    json.loads(path.read_text())
    rules = load(path, me="10.0.0.9", me_port=104)
    assert len(rules.rules) == 3
    assert rules.warnings == ()
    assert [each.active for each in rules.rules] == [True, True, False]


def test_the_empty_file_that_the_box_writes_loads_and_says_how_to_go_on() -> None:
    assert parse(EMPTY, "routing.json").rules == ()
    assert "docs/routing.md" in EMPTY
    uncommented = "\n".join(line.replace("//", "", 1) for line in EMPTY.splitlines() if '"' in line or "// }" in line)
    assert uncommented.count('"send"') == 1


def test_the_contracts_example_in_the_fields_words() -> None:
    which = [{"0008,103e": "T1.*", "0008,0060": "^MR$"}, {"0008,103e": "ADC"}]
    success, failed = {**ENDPOINT, "break": 1, "which": which}, {**ENDPOINT, "PORT": 104, "AETitleTo": " QC "}
    found = one(rule(AETitleIn="ProcRSI", AETitleFrom="PACS", send=[{"success": success, "failed": failed}]))
    assert found.called_ae is not None
    assert found.called_ae.pattern == "ProcRSI"
    assert found.calling_ae is not None
    assert found.calling_ae.pattern == "PACS"
    assert (found.active, found.last, found.directory) == (True, False, "OUTPUT")
    first, second = found.endpoints
    assert first.destination == DicomDestination("10.0.0.5", 403, "me", "PACS")
    assert second.destination == DicomDestination("10.0.0.5", 104, "me", "QC")
    assert (first.gate, second.gate) == (True, False)
    assert [[str(test.tag) for test in each.tests] for each in first.filters] == [
        ["0008,103E", "0008,0060"],
        ["0008,103E"],
    ]


def test_result_checks_that_are_asked_for() -> None:
    assert one(rule()).checks == ()
    assert one(rule(check={"unique": "T", "loads": 1, "uids": 0})).checks == ("loads", "unique")
    assert set(schema()["$defs"]["check"]["properties"]) == set(CHECKS)


def test_entries_stand_in_the_order_of_objects_and_of_keys_in_the_file() -> None:
    found = one(rule(send=[{"b": ENDPOINT, "a": ENDPOINT}, {"c": ENDPOINT}]))
    assert [each.outcome.pattern for each in found.endpoints] == ["b", "a", "c"]


@pytest.mark.parametrize(("yes", "no"), [(1, 0), ("1", "0"), (True, False), ("T", "F")])
def test_every_form_of_a_flag(yes: object, no: object) -> None:
    for key in ("status", "enabled"):
        assert one(rule(**{key: yes})).off == ""
        assert one(rule(**{key: no})).off == key
    assert (one(rule(**{"break": yes})).last, one(rule(**{"break": no})).last) == (True, False)
    gates = (one(entry(**{"break": flag})).endpoints[0].gate for flag in (yes, no))
    assert tuple(gates) == (True, False)


@pytest.mark.parametrize(
    "host", ["10.0.0.5", "::1", "fe80::1", "pacs", "pacs.example.org", "my_pacs", "does-not-resolve"]
)
def test_hosts(host: str) -> None:
    assert one(entry(IP=host)).endpoints[0].destination == DicomDestination(host, 403, "me", "PACS")


def test_placeholders_stand_for_the_settings() -> None:
    found = one(entry(IP="$me", PORT="$port"), me="10.0.0.9", me_port=4242)
    assert str(found.endpoints[0].destination) == "PACS@10.0.0.9:4242"


def test_comments_and_trailing_commas_are_taken_but_not_inside_texts() -> None:
    text = '\ufeff// a\n{ "routing": [ // b\n  {"name": "http://x,]", "send": [], },\n // c\n ], } // d'
    assert parse(text.removeprefix("\ufeff"), "x").rules[0].name == "http://x,]"


def test_a_file_with_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    path.write_bytes(b"\xef\xbb\xbf" + EMPTY.encode())
    assert load(path).rules == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1, column 1: the file is empty"),
        (b" \n", "the file is empty"),
        (b" " * (LARGEST + 1), "larger than"),
        (b'{"routing": [\n"\xff"]}', "line 2: not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_text_of_rules(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "routing.json"
    path.write_bytes(content)
    with pytest.raises(RulesRefused, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{ "routing": [\n  {', 'line 2, column 4: expected a key in "quotes" or }, but the file ends here'),
        ('{ "routing": [ {} {} ] }', "line 1, column 19: expected a comma or ], found '{'"),
        ('{\n "routing" [] }', "line 2, column 12: expected : after the key, found '['"),
        ('{ "routing": [], "routing": [] }', "line 1, column 18, routing: this key is there twice"),
        ("{ routing: [] }", 'line 1, column 3: expected a key in "quotes" or }'),
        ("{ 'routing': [] }", 'line 1, column 3: expected a key in "quotes" or }'),
        ('{ "routing": nul }', "expected a value"),
        ('{ "routing": NaN }', "expected a value"),
        ('{ "routing": 01 }', "expected a number"),
        ('{ "routing": "abc\n" }', "expected a text that ends on its line"),
        ('{ "routing": "\\ud800" }', "surrogate"),
        ("{} {}", "expected nothing more"),
        ("[" * 100_000, "nested more than"),
        ("[]", "expected an object with the list 'routing'"),
        ("{}", "'routing' is missing"),
        (text_of({}), "line 3, column 3, routing[0]: 'send' is missing"),
        (text_of(rule(nmae="x")), "routing[0].nmae: unknown key, did you mean 'name'?"),
        (text_of(rule(aetitlein="x")), "routing[0].aetitlein: unknown key, did you mean 'AETitleIn'?"),
        (text_of(entry(colour="x")), "routing[0].send[0].success.colour: unknown key; known are IP, PORT"),
        (text_of(entry(PORT=0)), "routing[0].send[0].success.PORT: expected a port from 1 to 65535"),
        (text_of(entry(PORT=65536)), "found 65536"),
        (text_of(entry(PORT="70000")), 'found "70000"'),
        (text_of(entry(PORT="1e3")), 'found "1e3"'),
        (text_of(entry(PORT=True)), "found true"),
        (text_of(entry(PORT=1.5)), "found 1.5"),
        (text_of(entry(PORT="$me")), 'found "$me"'),
        (text_of(entry(IP="$me")), "the setting 'me' is not set"),
        (text_of(entry(PORT="$port")), "the setting 'me_port' is not set"),
        (text_of(entry(IP="10.0.0.256")), 'found "10.0.0.256"'),
        (text_of(entry(IP="10.0.5")), 'found "10.0.5"'),
        (text_of(entry(IP="a b")), 'found "a b"'),
        (text_of(entry(IP="http://pacs")), 'found "http://pacs"'),
        (text_of(entry(IP="")), 'found ""'),
        (text_of(entry(AETitleTo="A" * 17)), "at most 16 characters, this one has 17"),
        (text_of(entry(AETitleSender="")), "must not be empty"),
        (text_of(entry(AETitleSender="PÄCS")), "only ASCII"),
        (text_of(entry(which=[])), "routing[0].send[0].success.which: expected a list with at least one object"),
        (text_of(entry(which=[{}])), "routing[0].send[0].success.which[0]: expected an object with at least one"),
        (text_of(entry(which={"0008,0060": "MR"})), "success.which: expected a list"),
        (text_of(entry(which=[{"Modalty": "MR"}])), "which[0].Modalty: expected a tag"),
        (text_of(entry(which=[{"Modalty": "MR"}])), "did you mean Modality?"),
        (text_of(entry(which=[{"0008,006": "MR"}])), 'which[0]["0008,006"]: expected a tag'),
        (text_of(entry(which=[{"PixelData": "MR"}])), "pixel data"),
        (text_of(entry(which=[{"0008,CREATOR,01": "MR"}])), "not a private group"),
        (text_of(entry(which=[{"0008,0060": 1}])), "found 1"),
        (text_of(rule(status=2)), "routing[0].status: expected 1,"),
        (text_of(rule(status="yes")), 'found "yes"'),
        (text_of(rule(enabled=None)), "found null"),
        (text_of(rule(RouteDirectory="../x")), "it leaves the job's folder"),
        (text_of(rule(RouteDirectory="/x")), "it leaves the job's folder"),
        (text_of(rule(RouteDirectory="OUTPUT//x")), "nothing empty"),
        (text_of(rule(RouteDirectory="OUTPUT/")), "nothing empty"),
        (text_of(rule(RouteDirectory=".")), "nothing empty"),
        (text_of(rule(RouteDirectory="OUT\0PUT")), "nothing empty"),
        (text_of(rule(AETitleIn="")), 'found ""'),
        (text_of(rule(check={})), "routing[0].check: expected an object with at least one of loads, uids, same_study"),
        (
            text_of(rule(check={"same_studdy": 1})),
            "routing[0].check.same_studdy: unknown key, did you mean 'same_study'?",
        ),
        (text_of(rule(check={"loads": "yes"})), "routing[0].check.loads: expected 1"),
        (text_of(rule(check=["loads"])), "routing[0].check: expected an object"),
        (text_of(rule(send={})), "routing[0].send: expected a list of objects"),
        (text_of(rule(send=[ENDPOINT])), "routing[0].send[0].IP: expected an object with IP, PORT"),
    ],
)
def test_what_is_wrong_is_said_with_place_path_and_what_was_expected(text: str, said: str) -> None:
    problems = refused(text)
    assert any(said in problem for problem in problems), problems
    assert all(problem.startswith("routing.json, line ") and "\n" not in problem for problem in problems)


def test_the_place_of_a_bad_pattern_is_the_character_in_the_file() -> None:
    text = '{ "routing": [\n  { "AETitleIn": "\\\\d\\u0041(b", "send": [] } ] }'
    (problem,) = refused(text)
    column = text.splitlines()[1].index("(") + 1
    assert f"line 2, column {column}, routing[0].AETitleIn: expected a regular expression" in problem


DESTINATIONS: dict[str, Any] = {
    "pacs": {**ENDPOINT, "AETitleSender": "$caller"},
    "safe pacs": {**ENDPOINT, "kind": "dicom", "tls": {"ca": "/ca.pem", "certificate": "/c.pem", "key": "/k.pem",
                  "key_password": "env:KEY", "server_name": "pacs.example.org", "check_name": 0}},
    "research": {"kind": "folder", "path": "/mnt/research"},
    "web": {"kind": "stow", "URL": "https://web.example.org/dicom-web/", "user": "box", "password": "file:/run/pw"},
    "old": {**ENDPOINT, "transfer_syntaxes": {"preferred": ["RLELossless"], "never": ["1.2.840.10008.1.2.4.90"]}},
}  # fmt: skip
STOW = {"kind": "stow", "URL": "https://web.example.org"}


def with_destinations(to: object = "pacs", **destinations: Any) -> str:
    """A file with one entry that names a destination."""
    named = {"routing": [rule(send=[{"success": {"to": to}}])], "destinations": {**DESTINATIONS, **destinations}}
    return json.dumps(named, indent=1)


def test_destinations_by_name() -> None:
    text = with_destinations("safe pacs", back={**ENDPOINT, "IP": "$sender", "AETitleSender": "$called"})
    rules = parse(text, "routing.json")
    tls = Tls("/ca.pem", "/c.pem", "/k.pem", Secret("env:KEY"), "pacs.example.org", False)
    safe = DicomDestination("10.0.0.5", 403, "me", "PACS", "safe pacs", tls)
    assert rules.destinations == {
        "pacs": DicomDestination("10.0.0.5", 403, "$caller", "PACS", "pacs"),
        "safe pacs": safe,
        "research": FolderDestination("/mnt/research", DEFAULT_PATTERN, "research"),
        "web": StowDestination("https://web.example.org/dicom-web", "web", None, "box", Secret("file:/run/pw")),
        "old": DicomDestination(
            "10.0.0.5",
            403,
            "me",
            "PACS",
            "old",
            transfer_syntaxes=TransferSyntaxes(preferred=(RLE,), never=(JPEG_2000_LOSSLESS,)),
        ),
        "back": DicomDestination("$sender", 403, "$called", "PACS", "back"),
    }
    assert rules.rules[0].endpoints[0].destination == safe
    assert str(safe) == "safe pacs (PACS@10.0.0.5:403)"


def test_an_entry_by_name_may_be_a_gate_and_select() -> None:
    send = [{"success": {"to": "pacs", "break": 1, "which": [{"Modality": "MR"}]}}]
    found = parse(json.dumps({"routing": [rule(send=send)], "destinations": DESTINATIONS}), "routing.json")
    (endpoint,) = found.rules[0].endpoints
    assert endpoint.gate
    assert len(endpoint.filters) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (with_destinations("pasc"), "line 8, column 13, routing[0].send[0].success.to: no destination"),
        (with_destinations("pasc"), "did you mean 'pacs'?"),
        (with_destinations("PACS"), "did you mean 'pacs'?"),
        (with_destinations("zzzzz"), "no destination is called 'zzzzz'; there are old, pacs, research, safe pacs, web"),
        (text_of(rule(send=[{"success": {"to": "pacs"}}])), "called 'pacs'; the file has no 'destinations'"),
        (with_destinations(7), "routing[0].send[0].success.to: expected the name of one of the 'dest"),
        (text_of(rule(send=[{"success": {"to": "x", "IP": "10.0.0.5"}}])), "IP: unknown key; known are to, break"),
        (text_of(entry(too="pacs")), "unknown key, did you mean 'to'?"),
        (with_destinations(x=7), "destinations.x: expected an object that says where results go"),
        (with_destinations(**{"../x": ENDPOINT}), "expected a name of 1 to 64 letters"),
        (with_destinations(x={}), "destinations.x: 'IP' is missing"),
        (with_destinations(x={**ENDPOINT, "kind": "dicm"}), 'destinations.x.kind: expected "dicom"'),
        (with_destinations(x={**ENDPOINT, "TLS": {}}), "destinations.x.TLS: unknown key, did you mean 'tls'?"),
        (with_destinations(x={**ENDPOINT, "tls": {"ca": "ca.pem"}}), "destinations.x.tls.ca: expected the path"),
        (with_destinations(x={**ENDPOINT, "tls": {"key": "/k"}}), "destinations.x.tls: 'key' needs 'certificate'"),
        (with_destinations(x={**ENDPOINT, "tls": {"check_name": "F"}}), "tls.check_name: only with a 'ca' of your own"),
        (with_destinations(x={"kind": "stow"}), "destinations.x: 'URL' is missing"),
        (with_destinations(x={**STOW, "URL": "ftp://x"}), "begins with https:// or http:// and a host"),
        (with_destinations(x={**STOW, "URL": "https://x/?a=b"}), "no ? and no #"),
        (with_destinations(x={**STOW, "URL": "https://x:99999/"}), "expected the root of the service"),
        (with_destinations(x={**STOW, "URL": "https://x/a b\r\nX: y"}), "write them as %xx"),
        (with_destinations(x={**STOW, "user": "box"}), "'user' needs 'password' beside it"),
        (with_destinations(x={**STOW, "password": "env:X"}), "'password' needs 'user' beside it"),
        (with_destinations(x={**STOW, "user": "a:b", "password": "env:X"}), "expected a user's name, without a colon"),
        (with_destinations(x={**STOW, "bearer": "env:X", "user": "a", "password": "env:X"}), "not both"),
        (with_destinations(x={"kind": "stow", "URL": "http://x", "tls": {}}), "which knows no TLS"),
        (
            with_destinations(x={**ENDPOINT, "transfer_syntaxes": ["RLE"]}),
            "expected an object with preferred, ",
        ),
        (with_destinations(x={**ENDPOINT, "transfer_syntaxes": {"only": []}}), "transfer_syntaxes.only: unknown key"),
        (with_destinations(x={**ENDPOINT, "transfer_syntaxes": {"never": "RLE"}}), "never: expected a list"),
        (with_destinations(x={**ENDPOINT, "transfer_syntaxes": {"never": ["JPEG200"]}}), "did you mean 'JPEG2000'?"),
        (
            with_destinations(x={**ENDPOINT, "transfer_syntaxes": {"never": ["1.2.03"]}}),
            "never[0]: expected a ",
        ),
        (with_destinations(x={"kind": "folder"}), "destinations.x: 'path' is missing"),
        (with_destinations(x={"kind": "folder", "path": "share"}), "a path begins with /"),
        (with_destinations(x={"kind": "folder", "path": "/s", "pattern": "{PatientId}"}), "did you mean PatientID?"),
        (with_destinations(x={"kind": "folder", "path": "/s", "pattern": "../{PatientID}"}), "begin with a dot"),
    ],
)
def test_what_is_wrong_with_destinations_is_said(text: str, said: str) -> None:
    problems = refused(text)
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize("secret", ["hunter2", "env:", "env:A B", "file:relative", "hunter2:env:X", 12345678])
def test_a_secret_that_stands_in_the_file_is_refused_and_not_repeated(secret: object) -> None:
    tls = {"certificate": "/c", "key_password": secret}
    problems = refused(with_destinations(x={**ENDPOINT, "tls": tls}))
    assert any("tls.key_password: expected where the password is: env:NAME or file:/path" in each for each in problems)
    assert str(secret) not in "".join(problems).replace("env:NAME", "")


def test_a_secret_in_a_url_or_in_place_of_a_token_is_not_repeated() -> None:
    for wrong in ({"URL": "https://box:hunter2@x"}, {"bearer": "hunter2"}, {"user": "b", "password": "hunter2"}):
        problems = refused(with_destinations(x={**STOW, **wrong}))
        assert "hunter2" not in "".join(problems)


def test_a_key_that_is_no_pattern() -> None:
    assert (
        'routing[0].send[0]["succ(ess"]: expected a regular expression'
        in refused(text_of(rule(send=[{"succ(ess": ENDPOINT}])))[0]
    )


def test_all_that_is_wrong_is_found_and_the_most_telling_comes_first() -> None:
    problems = refused(text_of(entry(PORT=0, which=[]), {"snd": []}, rule(status=7)))
    assert "routing[1].snd: unknown key, did you mean 'send'?" in problems[0]
    assert [problem.split(": ")[0].split(", ")[-1] for problem in problems[1:]] == [
        "routing[0].send[0].success.PORT",
        "routing[0].send[0].success.which",
        "routing[2].status",
    ]
    with pytest.raises(RulesRefused, match=r"\(and 3 more\)$"):
        parse(text_of(entry(PORT=0, which=[]), {"snd": []}, rule(status=7)), "x")


def test_what_is_allowed_but_hardly_meant_is_warned_about() -> None:
    rules = parse(text_of(rule(send=[{"sucess": ENDPOINT, "ok": ENDPOINT, "Success": ENDPOINT}])), "routing.json")
    assert rules.warnings == (
        "routing.json, line 7, column 6, routing[0].send[0].sucess: no usual outcome, did you mean 'success'?",
    )
    (warning,) = parse(text_of(entry(which=[{"0008,103e": "(T1.*)+x"}])), "routing.json").warnings
    assert "repetition within a repetition" in warning


def test_the_digest_tells_one_text_from_another() -> None:
    assert parse(EMPTY, "a").digest == parse(EMPTY, "b").digest != parse(EMPTY + " ", "a").digest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 1]))
def test_the_reader_agrees_with_the_standard_librarys(value: Any, indent: int | None) -> None:
    assert read(json.dumps(value, indent=indent)).value == value
    assert read(json.dumps(value, indent=indent, ensure_ascii=False)).value == value


@given(st.text(alphabet='{}[]",:/\\0a1. \nrouting'))
def test_any_text_is_read_or_said_to_be_wrong(text: str) -> None:
    try:
        read(text)
    except NotJson as exc:
        assert 0 <= exc.offset <= len(text)  # noqa: PT017


@given(JSON)
def test_any_json_in_place_of_a_rule_is_refused_or_taken(value: Any) -> None:
    for text in (
        json.dumps({"routing": value}),
        json.dumps({"routing": [value]}),
        text_of({"send": [{"success": value}]}),
    ):
        try:
            assert isinstance(parse(text, "routing.json"), Rules)
        except RulesRefused as exc:
            assert exc.problems  # noqa: PT017

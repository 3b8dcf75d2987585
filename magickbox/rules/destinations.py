"""Destinations in the routing JSON: what only they have to keep to, and what they come to."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from magickbox.clock import seconds
from magickbox.destination import (
    SENDER,
    Destination,
    DicomDestination,
    FolderDestination,
    Line,
    Secret,
    StowDestination,
    Tls,
)
from magickbox.group import Group, Policy
from magickbox.pathpattern import DEFAULT_PATTERN, parse_path_pattern
from magickbox.positionedjson import Path
from magickbox.proof import How, Verify
from magickbox.queueing import DestinationPolicy
from magickbox.schedule import Rate, read_hours
from magickbox.secret import source_problem
from magickbox.transfersyntax import KEYWORDS, TransferSyntaxes, uid_of

ME, MY_PORT = "$me", "$port"
_LINE = {"stall", "least_speed"}
MASKED = ("secret", "service-url")  # formats whose values no message repeats: a secret may stand there by mistake


@dataclass(frozen=True)
class Translator:
    """From JSON that was found right to destinations; ``me`` and ``me_port`` are what placeholders stand for."""

    me: str | None
    me_port: int | None

    def destination(self, value: Mapping[str, Any], name: str = "") -> Destination:
        """One destination, with its name if it has one."""
        if value.get("kind") == "folder":
            return FolderDestination(value["path"], value.get("pattern", DEFAULT_PATTERN), name)
        if value.get("kind") == "stow":
            tls = _tls(value["tls"]) if "tls" in value else None
            bearer, password = (Secret(value[key]) if key in value else None for key in ("bearer", "password"))
            return StowDestination(
                value["URL"].rstrip("/"),
                name,
                bearer,
                value.get("user", ""),
                password,
                tls,
                _line(value),
                _verify(value),
            )
        host = self.me if value["IP"] == ME else value["IP"]
        port = self.me_port if value["PORT"] == MY_PORT else value["PORT"]
        calling_ae, called_ae = value["AETitleSender"].strip(), value["AETitleTo"].strip()
        tls = _tls(value["tls"]) if "tls" in value else None
        syntaxes = _transfer_syntaxes(value.get("transfer_syntaxes", {}))
        return DicomDestination(
            str(host), int(port or 0), calling_ae, called_ae, name, tls,
            transfer_syntaxes=syntaxes, line=_line(value), verify=_verify(value),
        )  # fmt: skip


def _verify(value: Mapping[str, Any]) -> Verify:
    times = {key: seconds(str(value[f"verify_{key}"])) for key in ("wait", "within") if f"verify_{key}" in value}
    return Verify(How(value.get("verify", How.NONE)), **times, reports_from=value.get("verify_from", "").strip())


def _transfer_syntaxes(value: Mapping[str, Any]) -> TransferSyntaxes:
    return TransferSyntaxes(**{key: tuple(uid_of(each) or each for each in listed) for key, listed in value.items()})


def groups(named: Mapping[str, Any], plain: Mapping[str, Destination]) -> dict[str, Group]:
    """The groups among what has names, made of those that are none."""
    return {
        name: Group(name, tuple(plain[each] for each in value["members"]), Policy(value.get("policy", "failover")))
        for name, value in named.items()
        if is_group(value)
    }


def is_group(value: object) -> bool:
    """True for what is written as a group."""
    return "members" in _object(value)


def _group_problems(name: str, named: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for n, member in enumerate(_list(_object(named[name]).get("members"))):
        path: Path = ("destinations", name, "members", n)
        if not isinstance(member, str):
            continue
        if member not in named:
            yield path, _no_such(member, {each: value for each, value in named.items() if not is_group(value)})
        elif is_group(named[member]):
            yield path, f"'{member}' is a group: a group is made of destinations, not of groups"
        elif _object(named[member]).get("IP") == SENDER:
            yield path, f"'{member}' goes back to the sender, so that nobody can stand in for it"


def _line(value: Mapping[str, Any]) -> Line:
    queue = value.get("queue", {})
    return Line(queue.get("stall"), queue.get("least_speed"))


def policy(value: Mapping[str, Any]) -> DestinationPolicy:
    """How a destination wants to be served."""
    queue = value.get("queue", {})
    return DestinationPolicy(
        queue.get("connections", 1),
        read_hours(queue["hours"]) if "hours" in queue else None,
        Rate(queue.get("instances_per_minute", 0.0), queue.get("megabytes_per_second", 0.0)),
    )


def _tls(value: Mapping[str, Any]) -> Tls:
    password = Secret(value["key_password"]) if "key_password" in value else None
    texts = {key: value[key] for key in ("ca", "certificate", "key", "server_name") if key in value}
    return Tls(**texts, key_password=password, check_name=not _is_no(value.get("check_name", 1)))


def _is_no(flag: object) -> bool:
    return str(flag).casefold() in ("0", "f", "false")


def problems(document: object) -> Iterator[tuple[Path, str]]:
    """What a schema cannot say: names that nobody has, keys that need each other; all else may be wrong, too."""
    named = _object(_object(document).get("destinations"))
    for path, name in _references(document):
        if name not in named:
            yield path, _no_such(name, named)
    for name, value in named.items():
        yield from _group_problems(name, named)
        for key, said in _stow_problems(_object(value)):
            yield ("destinations", name, key), said
        for key in _LINE & set(_object(_object(value).get("queue")) if _object(value).get("kind") == "folder" else ()):
            yield ("destinations", name, "queue", key), "a folder has no line: only DICOM and DICOMweb destinations do"
        tls = _object(_object(value).get("tls"))
        if "ca" not in tls and _is_no(tls.get("check_name", 1)):
            where = ("destinations", name, "tls", "check_name")
            yield where, "only with a 'ca' of your own can the name be left aside"


def _stow_problems(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if value.get("kind") != "stow":
        return
    if "bearer" in value and "password" in value:
        yield "bearer", "either a 'bearer' token or 'user' and 'password', not both"
    if "tls" in value and str(value.get("URL", "https:")).startswith("http:"):
        yield "tls", "the URL begins with http:, which knows no TLS"


def _references(document: object) -> Iterator[tuple[Path, str]]:
    """Where entries name destinations."""
    for number, rule in enumerate(_list(_object(document).get("routing"))):
        for place, entries in enumerate(_list(_object(rule).get("send"))):
            for key, entry in _object(entries).items():
                if isinstance(to := _object(entry).get("to"), str):
                    yield ("routing", number, "send", place, key, "to"), to


def _no_such(name: str, named: Mapping[str, Any]) -> str:
    folded = {each.casefold(): each for each in named}
    near = [folded[name.casefold()]] if name.casefold() in folded else difflib.get_close_matches(name, named, n=1)
    if near:
        return f"no destination is called '{name}', did you mean '{near[0]}'?"
    known = f"there are {', '.join(sorted(named))}" if named else "the file has no 'destinations'"
    return f"no destination is called '{name}'; {known}"


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _absolute_path(value: object) -> bool:
    if isinstance(value, str) and not (value.startswith("/") and value.isprintable()):
        raise ValueError("a path begins with /")
    return True


def _folder_pattern(value: object) -> bool:
    if isinstance(value, str):
        parse_path_pattern(value)
    return True


def _syntax(value: object) -> bool:
    if isinstance(value, str) and uid_of(value) is None:
        near = difflib.get_close_matches(value, KEYWORDS, n=1, cutoff=0.5)
        raise ValueError(f"did you mean '{near[0]}'?" if near else f"there are {', '.join(KEYWORDS)}")
    return True


def _secret(value: object) -> bool:
    problem = source_problem(value) if isinstance(value, str) else None
    if problem:
        raise ValueError(problem)
    return True


def _service_url(value: object) -> bool:
    """Raises ValueError; what it says never has the URL in it, where somebody may have put a password."""
    if not isinstance(value, str):
        return True
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL begins with https:// or http:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL has no user and no password in it; there are keys for them")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("the root of the service has no ? and no #")
    if not value.isascii() or not value.isprintable() or any(c in ' "<>\\^`{|}' for c in value):
        raise ValueError("other characters than a URL has: write them as %xx")
    if parts.port == 0:  # which raises ValueError if it is no number
        raise ValueError("a port is from 1 to 65535")
    return True


def _duration(value: object) -> bool:
    if isinstance(value, str):
        seconds(value)
    return True


def _hours(value: object) -> bool:
    if isinstance(value, str):
        read_hours(value)
    return True


FORMATS: Mapping[str, Callable[[object], bool]] = {
    "absolute-path": _absolute_path,
    "duration": _duration,
    "folder-pattern": _folder_pattern,
    "hours": _hours,
    "secret": _secret,
    "service-url": _service_url,
    "transfer-syntax": _syntax,
}

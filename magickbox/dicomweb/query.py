"""Looks by QIDO-RS whether a DICOMweb service has what was sent (PS3.18 10.6); implements ``magickbox.prover``.

For each series it asks for the instances, page by page: services differ in how many they name at once, and an answer
is bounded. A page that names no new instance ends the series, whatever a service makes of ``offset``.
"""

import json
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlsplit

from magickbox.destination import Destination, Rejected, Retry, StowDestination
from magickbox.dicom.find import series_of
from magickbox.dicomweb.answer import Answer as HttpAnswer
from magickbox.dicomweb.answer import judge_answer, text_in
from magickbox.dicomweb.connection import Connection, Limits
from magickbox.dicomweb.credentials import credentials
from magickbox.errors import ConfigError, PeerError, UnreadableHeader
from magickbox.prover import Answer, Ear, Question, Watch, tell_found

PAGE = 500
LARGEST_PAGE = 16 * 1024 * 1024
MOST_INSTANCES = 1_000_000
INSTANCE = "00080018"


class QidoProver:
    """Asks by QIDO-RS."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits(largest=LARGEST_PAGE)

    def ask(self, destination: Destination, question: Question, ear: Ear, watch: Watch) -> Answer:
        """Look for every instance; what is lacking is told when its time is up."""
        assert isinstance(destination, StowDestination)
        try:
            series = sorted({series_of(each.path) for each in question.instances})
        except (OSError, UnreadableHeader):
            return Rejected("a file that was sent cannot be read any more")
        try:
            headers = {"Accept": "application/dicom+json", "User-Agent": "magickbox", **credentials(destination)}
            connection = Connection(destination.url, destination.tls, self._limits.on(destination.line))
        except (ConfigError, PeerError) as exc:
            return Retry(str(exc))
        watch(connection)
        try:
            found = _Look(connection, destination.url, headers).at(series)
        except PeerError as exc:
            return Retry(str(exc), answered=True)
        finally:
            watch(None)
            connection.close()
        if isinstance(found, NotFound) and question.age < question.verify.within:
            return Retry(found.reason, answered=True)
        return tell_found(question, ear, found) if isinstance(found, set) else found


class NotFound(Rejected):
    """The service knows no such resource: the study is not filed yet, or it has no QIDO-RS at all."""


class _Look:
    """One look at a service, over one connection as long as it lasts."""

    def __init__(self, connection: Connection, url: str, headers: Mapping[str, str]) -> None:
        self._connection, self._headers = connection, headers
        self._root = urlsplit(url).path.rstrip("/")

    def at(self, series: Iterable[tuple[str, str]]) -> set[str] | Retry | Rejected:
        """The SOP Instance UIDs that the service has of these series, or why it does not say."""
        found = set[str]()
        for study, uid in series:
            said = self._at_one(f"{self._root}/studies/{quote(study, safe='')}/series/{quote(uid, safe='')}/instances")
            if not isinstance(said, set):
                return said
            found |= said
        return found

    def _at_one(self, path: str) -> set[str] | Retry | Rejected:
        found, offset = set[str](), 0
        while offset < MOST_INSTANCES:
            query = f"?includefield={INSTANCE}&limit={PAGE}&offset={offset}"
            page = instances_in(self._connection.get(path + query, self._headers))
            if not isinstance(page, list):
                return page
            if not set(page) - found:
                return found
            found.update(page)
            offset += len(page)
        raise PeerError("the service's answers to QIDO-RS do not end")


def instances_in(answer: HttpAnswer) -> list[str] | Retry | Rejected:
    """The SOP Instance UIDs in an answer to QIDO-RS (PS3.18 10.6.3), or why there are none."""
    if answer.status == 204:
        return []
    if answer.status in (404, 405, 501):
        kind = NotFound if answer.status == 404 else Rejected
        return kind(f"QIDO-RS: HTTP {answer.status}: no such series there, or no QIDO-RS at this URL")
    if answer.status != 200:
        said = judge_answer(answer, "")
        words = f"QIDO-RS: {said.reason}"
        return Rejected(words) if isinstance(said, Rejected) else Retry(words, answered=True)
    if answer.cut_off:
        return Retry("QIDO-RS: an answer that is far too long", answered=True)
    try:
        told = json.loads(answer.body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, list):
        return Retry("QIDO-RS: no list of instances: is there a DICOMweb service at this URL?", answered=True)
    return [text_in(each, INSTANCE) for each in told if isinstance(each, dict)]

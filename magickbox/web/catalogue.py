"""What people know a job by: patient, accession number, study and series, read from one header of each series.

It is the window's own and can be read again from the images at any time; the ledger has nothing of it. Rows go when
their job is deleted.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from magickbox.dicom.tagvalues import ABSENT, values_of
from magickbox.ledger import Transaction
from magickbox.ledger.listings import Among, with_uid
from magickbox.tagpath import parse_tag_path
from magickbox.web.store import Store

KEPT = "kept"
"""The name by which the statements of ``among`` find the window's own tables."""

HIDDEN = "hidden"
MOST_SERIES = 100
_LONGEST = 200
_KEYWORDS = (
    "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyDescription",
    "SeriesDescription",
)  # fmt: skip
_TAGS = tuple(parse_tag_path(keyword) for keyword in _KEYWORDS)
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")


@dataclass(frozen=True)
class Series:
    """A series of a job's INPUT."""

    uid: str
    modality: str
    description: str
    instances: int


@dataclass(frozen=True)
class Study:
    """What a job's images say of patient and study; texts as in the images, empty where they say nothing."""

    name: str = ""
    patient: str = ""
    birth_date: str = ""
    accession: str = ""
    date: str = ""
    description: str = ""
    series: tuple[Series, ...] = ()

    def without_person(self) -> "Study":
        """The same for those who may not see who the patient is."""
        return replace(self, name=HIDDEN, patient=HIDDEN, birth_date=HIDDEN)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Each once, in the order of the series."""
        return tuple(dict.fromkeys(each.modality for each in self.series if each.modality))


def beginnings(tx: Transaction, job: str) -> list[tuple[Series, str]]:
    """The series of a job as the ledger knows them, each with a file of it below INPUT."""
    rows = tx.execute(
        "SELECT series, max(modality), count(*), min(file) FROM instances WHERE job = ? AND place <> 'superseded'"
        " GROUP BY series ORDER BY min(file) LIMIT ?",
        (job, MOST_SERIES),
    )
    return [(Series(str(row[0]), str(row[1]), "", int(row[2])), str(row[3])) for row in rows]


def read_study(found: Iterable[tuple[Series, str]], folder: Path) -> Study:
    """Look into one file of each series; what cannot be read is empty."""
    study = Study()
    series = []
    for each, file in found:
        *said, description = _said_by(folder / file)
        series.append(replace(each, description=description))
        if not any((study.name, study.patient, study.accession)):
            study = _study(said)
    return replace(study, series=tuple(series))


def _study(said: Sequence[str], series: Iterable[Series] = ()) -> Study:
    name, patient, birth_date, accession, date, description = said
    return Study(name, patient, birth_date, accession, date, description, tuple(series))


def _said_by(path: Path) -> list[str]:
    try:
        found = values_of(path, _TAGS).values
    except OSError:
        return [""] * len(_TAGS)
    return [" ".join(found.get(tag, ABSENT)[0].split("\\"))[:_LONGEST].strip() for tag in _TAGS]


def folded(text: str) -> str:
    """A text as it is compared: without case, accents and the marks between the parts of a name."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[\^=\s]+", " ", "".join(c for c in plain if not unicodedata.combining(c))).strip()


class Catalogue:
    """The rows; safe from any thread. ``web.cataloguing`` keeps them up to date."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, jobs: Iterable[str]) -> dict[str, Study]:
        """What is known of these jobs; one that is not known yet is left out."""
        ids = (json.dumps(list(jobs)),)
        with self._store.reading() as tx:
            rows = tx.execute(
                "SELECT job, name, patient, birth_date, accession, date, description FROM catalogue"
                " WHERE job IN (SELECT value FROM json_each(?))",
                ids,
            ).fetchall()
            lines = tx.execute(
                "SELECT job, uid, modality, description, instances FROM catalogue_series"
                " WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, uid",
                ids,
            ).fetchall()
        series: dict[str, list[Series]] = {}
        for job, *line in lines:
            series.setdefault(str(job), []).append(Series(*line))
        return {str(job): _study(said, series.get(str(job), ())) for job, *said in rows}

    def modalities(self) -> list[str]:
        """The modalities that there are, sorted."""
        with self._store.reading() as tx:
            rows = tx.execute(
                "WITH RECURSIVE each(name) AS (SELECT min(modality) FROM catalogue_modalities UNION ALL SELECT (SELECT"
                " min(modality) FROM catalogue_modalities WHERE modality > each.name) FROM each WHERE name IS NOT NULL)"
                " SELECT name FROM each WHERE name <> '' LIMIT 100"
            ).fetchall()
        return [str(row[0]) for row in rows]

    def known(self) -> set[str]:
        """The jobs that have a row."""
        with self._store.reading() as tx:
            return {str(row[0]) for row in tx.execute("SELECT job FROM catalogue")}

    def keep(self, job: str, study: Study) -> None:
        """Write a job's rows, in place of those that there are."""
        words = (study.accession, study.description, *(each.description for each in study.series))
        person = f"{folded(study.name)} {folded(study.patient)}"
        said = (study.name, study.patient, study.birth_date, study.accession, study.date, study.description)
        with self._store.writing() as tx:
            self._drop(tx, job)
            tx.execute("INSERT INTO catalogue VALUES (?, ?, ?, ?, ?, ?, ?)", (job, *said))
            tx.execute("INSERT INTO catalogue_words VALUES (?, ?, ?)", (job, " ".join(map(folded, words)), person))
            tx.executemany("INSERT INTO catalogue_modalities VALUES (?, ?)", [(each, job) for each in study.modalities])
            tx.executemany(
                "INSERT INTO catalogue_series VALUES (?, ?, ?, ?, ?)",
                [(job, each.uid, each.modality, each.description, each.instances) for each in study.series],
            )

    def forget(self, jobs: Iterable[str]) -> None:
        """Remove the rows of jobs that are deleted."""
        for job in jobs:
            with self._store.writing() as tx:
                self._drop(tx, job)

    def _drop(self, tx: Transaction, job: str) -> None:
        for table in ("catalogue", "catalogue_words", "catalogue_series", "catalogue_modalities"):
            tx.execute(f"DELETE FROM {table} WHERE job = ?", (job,))  # noqa: S608  # our own tables


def among(text: str, modality: str, with_person: bool) -> tuple[Among, ...]:
    """The jobs that a person means by a text and a modality, as statements on a ledger with ``KEPT`` attached.

    Every word of the text must be found: in the job's id, accession number, descriptions and, ``with_person``, in name
    and ID of the patient. A UID finds the study, the series or the instance that has it.
    """
    found = tuple(_with_word(word, with_person) for word in text.split()[:8])
    if not modality:
        return found
    return (*found, Among("SELECT job FROM kept.catalogue_modalities WHERE modality = ?", (modality.upper(),)))


def _with_word(word: str, with_person: bool) -> Among:
    if _UID.fullmatch(word):
        known = with_uid(word)
        series = "SELECT job FROM kept.catalogue_series WHERE uid = ?"
        return Among(f"{known.statement} UNION {series}", (*known.values, word))
    looks = ["SELECT job FROM kept.catalogue_words WHERE instr(words, ?)"]
    looks += ["SELECT job FROM kept.catalogue_words WHERE instr(person, ?)"] if with_person else []
    looks += ["SELECT id FROM jobs INDEXED BY jobs_newest WHERE instr(lower(id), ?)"]
    return Among(" UNION ALL ".join(looks), (*[folded(word)] * (len(looks) - 1), word.lower()))

"""Fills a ledger by SQL with as many jobs as are wanted, without a byte of an image: for lists and their times."""

import sqlite3
from pathlib import Path

from magickbox.ledger import Ledger

STATES = ("DONE", "DONE", "DONE", "DONE", "DONE", "DELETED", "ATTENTION", "HELD", "DELIVERING", "READY")
CALLING = ("SCANNER1", "SCANNER2", "PACS", "pacs_old", "RESEARCH")
CALLED = ("ProcRSI", "ProcMIP", "COPY")
MODALITIES = ("MR", "CT", "PT")

# Job i is born i minutes after the beginning of 2026, those of three minutes at the same moment.
_JOBS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :jobs),
     t(i, at) AS (SELECT i, datetime('2026-01-01', '+' || (i - i % 3) || ' minutes') FROM n)
INSERT INTO jobs (id, state, since, reason, calling_ae, called_ae, peer, study, received, born, instances, bytes,
                  outcome, message, processor, attempt)
SELECT strftime('%Y%m%dT%H%M%SZ', at) || '-P-' || printf('%04x', i % 65536),
       json_extract(:states, '$[' || (i * 7 % 10) || ']'),
       strftime('%Y-%m-%dT%H:%M:%f', at) || '000+00:00', 'a reason', json_extract(:calling, '$[' || (i % 5) || ']'),
       json_extract(:called, '$[' || (i / 5 % 3) || ']'), '10.0.0.' || (i % 200), '1.2.826.0.1.3680043.10.' || i,
       strftime('%Y-%m-%dT%H:%M:%f', at) || '000+00:00', strftime('%Y-%m-%dT%H:%M:%f', at) || '000+00:00',
       :instances, :instances * 524288, 'success', '', 'proc' || (i % 20), 1
FROM t;
"""

_REST = """
INSERT INTO associations SELECT 'a' || rowid, id, calling_ae, called_ae, peer, received, received, 'released', instances
FROM jobs;
INSERT INTO history (job, at, became, reason, who) SELECT id, born, 'READY', 'born', 'box' FROM jobs;
INSERT INTO history (job, at, was, became, reason, who) SELECT id, born, 'READY', state, reason, 'box' FROM jobs;
INSERT INTO attempts SELECT id, 1, processor, '1.0', 'd', born,
    replace(strftime('%Y-%m-%dT%H:%M:%f', born, '+' || (5 + rowid % 10) || ' seconds'), ' ', 'T') || '000+00:00',
    0, iif(rowid % 40, 'success', 'failed'), '' FROM jobs;
INSERT INTO decisions SELECT id, 1, born, 'd', '{"rules": [{"name": "results", "applies": true, "reason": "matched",
"entries": [{"verdict": "applies", "destination": "PACS", "break": false, "reason": "3 of 500 files"}]}]}' FROM jobs;
INSERT INTO deliveries (job, decision, rule, entry, host, port, calling_ae, called_ae, gate, fallback, state, opened,
                        instances, lane, destination)
SELECT id, 1, 'results', entry, '10.0.0.5', 104 + entry, 'BOX', 'PACS', 0, 0,
       CASE WHEN state = 'DELIVERING' THEN 'OPEN' WHEN state = 'ATTENTION' AND entry THEN 'DEAD' ELSE 'DELIVERED' END,
       born, 3, 'PACS@10.0.0.5:' || (104 + entry), ''
FROM jobs, (SELECT 0 AS entry UNION ALL SELECT 1) WHERE state <> 'READY';
INSERT INTO delivery_attempts (delivery, n, began, ended, sent) SELECT id, 1, opened, opened, 3 FROM deliveries;
"""

_INSTANCES = """
WITH RECURSIVE k(j) AS (SELECT 0 UNION ALL SELECT j + 1 FROM k WHERE j + 1 < :each)
INSERT INTO instances
SELECT id, 'INPUT', study || '.' || (j / 100) || '.' || printf('%05d', j) || '.dcm',
       study || '.' || (j / 100) || '.' || printf('%05d', j), '1.2.840.10008.5.1.4.1.1.4', study,
       study || '.' || (j / 100), json_extract(:modalities, '$[' || (jobs.rowid % 3) || ']'), '1.2.840.10008.1.2.1',
       524288, 'c'
FROM jobs, k ORDER BY id, j;
"""


def fill(path: Path, jobs: int, instances: int, recorded: int | None = None) -> None:
    """A new ledger with ``jobs`` jobs that say they have ``instances`` instances each.

    ``recorded`` of these have a row of their own, all unless it is given.
    """
    Ledger(path).close()
    connection = sqlite3.connect(path)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000;")
        lists = {name: _as_json(value) for name, value in (("states", STATES), ("calling", CALLING))}
        connection.execute(_JOBS, {**lists, "called": _as_json(CALLED), "jobs": jobs, "instances": instances})
        connection.executescript(_REST)
        each = instances if recorded is None else recorded
        if each:
            connection.execute(_INSTANCES, {"each": each, "modalities": _as_json(MODALITIES)})
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _as_json(texts: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"

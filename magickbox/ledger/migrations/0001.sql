-- Times are texts in UTC with microseconds, so that they sort. Nothing here is the only copy of an image.

CREATE TABLE jobs (
    id          TEXT PRIMARY KEY,
    state       TEXT NOT NULL,
    since       TEXT NOT NULL,              -- in this state since
    reason      TEXT NOT NULL DEFAULT '',   -- why it is in this state
    resume      TEXT,                       -- HELD: the state it goes back to
    hold_asked  INTEGER NOT NULL DEFAULT 0, -- RUNNING: to be held at its next step
    calling_ae  TEXT NOT NULL,
    called_ae   TEXT NOT NULL,
    peer        TEXT NOT NULL,
    study       TEXT NOT NULL,
    received    TEXT NOT NULL,              -- its first instance
    born        TEXT NOT NULL,
    instances   INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    aborted     INTEGER NOT NULL DEFAULT 0,
    outcome     TEXT,
    message     TEXT NOT NULL DEFAULT '',
    processor   TEXT,
    attempt     INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0, -- interrupted runs in a row
    delivered   INTEGER NOT NULL DEFAULT 0, -- deliveries that arrived whole
    follows     TEXT,
    rerun_of    TEXT,
    parent      TEXT
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, born);
CREATE INDEX jobs_by_study ON jobs (study, calling_ae, called_ae, born);

CREATE TABLE associations (
    id         TEXT NOT NULL,
    job        TEXT NOT NULL REFERENCES jobs (id),
    calling_ae TEXT NOT NULL,
    called_ae  TEXT NOT NULL,
    peer       TEXT NOT NULL,
    began      TEXT NOT NULL,
    ended      TEXT,
    how        TEXT,
    instances  INTEGER NOT NULL,            -- of this job
    PRIMARY KEY (job, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE instances (
    job             TEXT NOT NULL REFERENCES jobs (id),
    place           TEXT NOT NULL,          -- INPUT, superseded, or view: a link to what an earlier job owns
    file            TEXT NOT NULL,
    sop_instance    TEXT NOT NULL,
    sop_class       TEXT NOT NULL,
    study           TEXT NOT NULL,
    series          TEXT NOT NULL,
    modality        TEXT NOT NULL,
    transfer_syntax TEXT NOT NULL,
    size            INTEGER NOT NULL,
    checksum        TEXT NOT NULL,
    PRIMARY KEY (job, place, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX instances_by_uid ON instances (sop_instance);

CREATE TABLE history (
    id     INTEGER PRIMARY KEY,
    job    TEXT NOT NULL REFERENCES jobs (id),
    at     TEXT NOT NULL,
    was    TEXT,
    became TEXT NOT NULL,
    reason TEXT NOT NULL,
    who    TEXT NOT NULL
) STRICT;
CREATE INDEX history_by_job ON history (job, id);

CREATE TABLE attempts (
    job       TEXT NOT NULL REFERENCES jobs (id),
    n         INTEGER NOT NULL,
    processor TEXT NOT NULL,
    version   TEXT NOT NULL,
    digest    TEXT NOT NULL,
    began     TEXT NOT NULL,
    ended     TEXT,
    exit_code INTEGER,
    outcome   TEXT,
    message   TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
    job    TEXT NOT NULL REFERENCES jobs (id),
    n      INTEGER NOT NULL,
    at     TEXT NOT NULL,
    rules  TEXT NOT NULL,                   -- digest of the rules that were looked at
    why    TEXT NOT NULL,                   -- JSON, without any tag's value
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id          INTEGER PRIMARY KEY,
    job         TEXT NOT NULL REFERENCES jobs (id),
    decision    INTEGER NOT NULL,
    rule        TEXT NOT NULL,              -- its name, or rule[3]
    entry       INTEGER NOT NULL,           -- which entry of the rule
    host        TEXT NOT NULL,
    port        INTEGER NOT NULL,
    calling_ae  TEXT NOT NULL,
    called_ae   TEXT NOT NULL,
    gate        INTEGER NOT NULL,           -- break 1: later entries of the rule wait for it
    waits_for   INTEGER REFERENCES deliveries (id),
    fallback    INTEGER NOT NULL,           -- another entry takes over if this one fails: short budget
    state       TEXT NOT NULL,              -- WAITING OPEN DELIVERED REPLACED DEAD SKIPPED CANCELLED
    opened      TEXT,
    tries       INTEGER NOT NULL DEFAULT 0,
    next_try    TEXT,
    ended       TEXT,
    reason      TEXT NOT NULL DEFAULT '',
    instances   INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_by_job ON deliveries (job, id);
CREATE INDEX deliveries_by_state ON deliveries (state, next_try);

CREATE TABLE delivery_instances (
    delivery        INTEGER NOT NULL REFERENCES deliveries (id),
    n               INTEGER NOT NULL,
    file            TEXT NOT NULL,          -- below the job folder
    sop_instance    TEXT NOT NULL,
    sop_class       TEXT NOT NULL,
    transfer_syntax TEXT NOT NULL,
    state           TEXT NOT NULL,          -- PENDING SENT REFUSED REJECTED; REFUSED once is asked again
    status          INTEGER,
    reason          TEXT NOT NULL DEFAULT '',
    at              TEXT,
    PRIMARY KEY (delivery, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery_attempts (
    delivery INTEGER NOT NULL REFERENCES deliveries (id),
    n        INTEGER NOT NULL,
    began    TEXT NOT NULL,
    ended    TEXT,
    sent     INTEGER NOT NULL DEFAULT 0,
    refused  INTEGER NOT NULL DEFAULT 0,
    result   TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (delivery, n)
) STRICT, WITHOUT ROWID;

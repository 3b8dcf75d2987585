-- What somebody was told of, so that a restart neither repeats it nor forgets to say that it is over.
CREATE TABLE alarms (
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    since   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    at      TEXT NOT NULL,              -- last told
    over    INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

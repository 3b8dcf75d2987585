-- People, what they log in with, and what they did. Secrets are kept as digests only; times are texts in UTC that sort.

CREATE TABLE users (
    name      TEXT PRIMARY KEY COLLATE NOCASE,
    role      TEXT NOT NULL,              -- viewer operator admin
    password  TEXT NOT NULL,              -- argon2id; '' until it is set by a link
    made      TEXT NOT NULL,
    last_seen TEXT
) STRICT;

-- One-time links by which somebody sets a password.
CREATE TABLE links (
    digest  TEXT PRIMARY KEY,
    name    TEXT NOT NULL COLLATE NOCASE, -- whose password; '' for the set-up of the first admin
    made    TEXT NOT NULL,
    expires TEXT NOT NULL
) STRICT;

CREATE TABLE sessions (
    digest  TEXT PRIMARY KEY,
    name    TEXT NOT NULL COLLATE NOCASE REFERENCES users (name) ON DELETE CASCADE,
    address TEXT NOT NULL,
    began   TEXT NOT NULL,
    seen    TEXT NOT NULL,
    expires TEXT NOT NULL
) STRICT;

CREATE TABLE tokens (
    id      INTEGER PRIMARY KEY,
    digest  TEXT NOT NULL UNIQUE,
    label   TEXT NOT NULL,
    name    TEXT NOT NULL COLLATE NOCASE REFERENCES users (name) ON DELETE CASCADE,
    scope   TEXT NOT NULL,                -- read operate admin
    made    TEXT NOT NULL,
    expires TEXT,
    seen    TEXT
) STRICT;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    who     TEXT NOT NULL,
    via     TEXT NOT NULL,
    address TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    result  TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_who ON audit (who, id);

-- Log-ins that failed, by account and by address: how long the next one waits.
CREATE TABLE failures (
    subject  TEXT PRIMARY KEY,
    count    INTEGER NOT NULL,
    until    TEXT NOT NULL
) STRICT;

-- Keys that the window makes for itself.
CREATE TABLE keys (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

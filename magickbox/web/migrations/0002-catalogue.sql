-- What people know a job by: read from its images, so that it can be found by it; gone when the job is deleted.
CREATE TABLE catalogue (
    job         TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    patient     TEXT NOT NULL,           -- ID
    birth_date  TEXT NOT NULL,
    accession   TEXT NOT NULL,
    date        TEXT NOT NULL,           -- of the study, as DICOM writes it
    description TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE catalogue_series (
    job         TEXT NOT NULL,
    uid         TEXT NOT NULL,
    modality    TEXT NOT NULL,
    description TEXT NOT NULL,
    instances   INTEGER NOT NULL,
    PRIMARY KEY (job, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX catalogue_series_by_uid ON catalogue_series (uid, job);

CREATE TABLE catalogue_modalities (          -- each once
    modality TEXT NOT NULL,
    job      TEXT NOT NULL,
    PRIMARY KEY (modality, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX catalogue_modalities_by_job ON catalogue_modalities (job);

CREATE TABLE catalogue_words (               -- what a text is looked for in, folded
    job    TEXT PRIMARY KEY,
    words  TEXT NOT NULL,
    person TEXT NOT NULL                     -- only for those who may see names
) STRICT, WITHOUT ROWID;

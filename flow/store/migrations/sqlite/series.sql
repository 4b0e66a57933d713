CREATE TABLE IF NOT EXISTS series (
    id       INTEGER PRIMARY KEY,             -- below 2^24
    probe    TEXT NOT NULL,
    observer TEXT NOT NULL,
    UNIQUE (probe, observer)
) STRICT;

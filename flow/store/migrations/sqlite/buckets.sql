-- Minutes of one UTC day, or hours of one month.
CREATE TABLE IF NOT EXISTS bucket (
    id          INTEGER PRIMARY KEY,          -- minutes or hours since 1970 × 2^24 + number of the series
    up          INTEGER NOT NULL,
    degraded    INTEGER NOT NULL,
    down        INTEGER NOT NULL,
    unknown     INTEGER NOT NULL,
    took_sum    INTEGER NOT NULL,             -- microseconds
    took_min    INTEGER NOT NULL,
    took_max    INTEGER NOT NULL,
    spread      BLOB    NOT NULL,             -- histogram of the lengths: (bucket, LEB128 count) pairs
    value_count INTEGER NOT NULL,
    value_sum   INTEGER NOT NULL,
    value_min   INTEGER NOT NULL,
    value_max   INTEGER NOT NULL
) STRICT;

-- Of a day of minutes: hours since 1970 that have minutes which their bucket does not count yet.
CREATE TABLE IF NOT EXISTS stale (start INTEGER PRIMARY KEY) STRICT;

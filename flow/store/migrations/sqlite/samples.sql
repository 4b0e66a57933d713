-- One UTC day of samples. In order of time, so that a batch touches one or two pages whatever the number of probes.
CREATE TABLE IF NOT EXISTS sample (
    id    INTEGER PRIMARY KEY,                -- milliseconds of the day × 2^24 + number of the series
    took  INTEGER NOT NULL,                   -- microseconds × 4 + reading (0 up, 1 degraded, 2 down, 3 unknown)
    value INTEGER
) STRICT;

-- Minutes since 1970 that have samples which their bucket does not count yet.
CREATE TABLE IF NOT EXISTS stale (start INTEGER PRIMARY KEY) STRICT;

-- The log itself: one row.
CREATE TABLE log (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    installation   BLOB    NOT NULL,          -- 16 random bytes
    origin         TEXT    NOT NULL,
    size           INTEGER NOT NULL,          -- entries
    root           BLOB    NOT NULL,          -- RFC 6962 root over them
    note           TEXT    NOT NULL,          -- signed checkpoint of size and root
    published_size INTEGER NOT NULL DEFAULT 0,
    published_note TEXT,                      -- the note that readers get, with its cosignatures
    announced      INTEGER                    -- the last entry that announces a key
) STRICT;

-- Leaves, for ever.
CREATE TABLE entry (
    sequence INTEGER PRIMARY KEY,
    leaf     BLOB NOT NULL
) STRICT;

-- Payloads, sealed, until their day is destroyed.
CREATE TABLE payload (
    sequence INTEGER PRIMARY KEY,
    class    INTEGER NOT NULL,                -- retention class: 1 evidence, 2 audit, 3 permanent
    day      INTEGER NOT NULL,                -- UTC day of recording, since 1970-01-01
    sealed   BLOB    NOT NULL                 -- nonce, then AES-256-GCM of salt and payload
) STRICT;

-- Which days have payloads, and where they are: spares an index with a row per payload. A row goes in the transaction
-- that journals the destruction, after the key: as long as it is there, there is work to finish.
CREATE TABLE retained (
    class    INTEGER NOT NULL,
    day      INTEGER NOT NULL,
    entries  INTEGER NOT NULL,
    first    INTEGER NOT NULL,                -- lowest sequence
    last     INTEGER NOT NULL,                -- highest sequence
    intended INTEGER,                         -- the entry that says it will be destroyed
    PRIMARY KEY (class, day)
) STRICT, WITHOUT ROWID;

-- Roots of complete tiles: subtrees of 256, 65,536 … leaves. Everything below is computed from the leaves.
CREATE TABLE tile_root (
    level INTEGER NOT NULL,                   -- 8, 16, …
    place INTEGER NOT NULL,
    hash  BLOB    NOT NULL,
    PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;

-- What was taken already, so that a spool sent twice changes nothing.
CREATE TABLE run (
    observer TEXT NOT NULL,
    boot     BLOB NOT NULL,
    taken    BLOB NOT NULL,                   -- its numbers, as ranges
    PRIMARY KEY (observer, boot)
) STRICT, WITHOUT ROWID;

-- The checkpoint of each set of two or more keys that leads from one to the other: the first after the announcement.
CREATE TABLE rotation (
    vkeys TEXT PRIMARY KEY,
    size  INTEGER NOT NULL,
    note  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- How far into the log each consumer has read.
CREATE TABLE consumer (
    name   TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What consumers keep. Keys are the bytes of a text, so that every database orders them alike.
CREATE TABLE consumer_row (
    consumer TEXT NOT NULL,
    key      BLOB NOT NULL,
    value    BLOB NOT NULL,
    PRIMARY KEY (consumer, key)
) STRICT, WITHOUT ROWID;

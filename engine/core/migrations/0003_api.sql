ALTER TABLE volumes ADD COLUMN labels TEXT NOT NULL DEFAULT '{}'; -- JSON object

-- What happened, for those who ask later; only the newest are kept.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL, -- nanoseconds since 1970
    event TEXT NOT NULL -- JSON
) STRICT;

-- What one running process made and takes down with it; dead once nobody holds its lock file.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY
) STRICT;

CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    subnet TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL,
    session TEXT REFERENCES sessions (id),
    created INTEGER NOT NULL -- milliseconds since 1970
) STRICT;

CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    config TEXT NOT NULL,
    session TEXT REFERENCES sessions (id),
    created INTEGER NOT NULL
) STRICT;

-- A container's address on a network, from its start to its removal.
CREATE TABLE endpoints (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    network TEXT NOT NULL REFERENCES networks (id),
    address TEXT NOT NULL,
    names TEXT NOT NULL, -- JSON list of the names that resolve to the address
    PRIMARY KEY (container, network),
    UNIQUE (network, address)
) STRICT;

CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    session TEXT REFERENCES sessions (id),
    created INTEGER NOT NULL
) STRICT;

CREATE INDEX containers_session ON containers (session);
CREATE INDEX networks_session ON networks (session);
CREATE INDEX volumes_session ON volumes (session);

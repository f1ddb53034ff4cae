-- A port of the host that a container has, from its start to its end. Inserted while its supervisor lives, so that a row
-- whose container has none is a dead one's.
CREATE TABLE ports (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    protocol TEXT NOT NULL,
    host_ip TEXT NOT NULL, -- 0.0.0.0 is all of the host's addresses
    host_port INTEGER NOT NULL,
    container_ip TEXT NOT NULL,
    container_port INTEGER NOT NULL,
    UNIQUE (protocol, host_ip, host_port)
) STRICT;

CREATE INDEX ports_container ON ports (container);

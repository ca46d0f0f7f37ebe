-- The token revocation list (RFC 9770): revoked tokens that would live yet, and what each party was told of changes.

CREATE TABLE trl (
        hash BLOB PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        client_id INTEGER NOT NULL,
        server_id INTEGER NOT NULL,
        audience TEXT NOT NULL,
        expires_s INTEGER NOT NULL
) STRICT;
CREATE INDEX trl_of_client ON trl (client_id);
CREATE INDEX trl_of_server ON trl (server_id);
CREATE INDEX trl_by_end ON trl (expires_s);

-- The update collection of a party, the last ones: item counts up from 0 for each. removed, added: hashes one after the
-- other. party_id 0: the whole list, which administrators see.
CREATE TABLE trl_updates (
        party_id INTEGER NOT NULL,
        item INTEGER NOT NULL,
        removed BLOB NOT NULL,
        added BLOB NOT NULL,
        PRIMARY KEY (party_id, item)
) STRICT, WITHOUT ROWID;

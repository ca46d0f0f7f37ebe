-- The token revocation list (RFC 9770): revoked tokens that would live yet, and what each party was told of changes.

CREATE TABLE trl (
        number INTEGER PRIMARY KEY,
        hash BLOB NOT NULL,
        client_id INTEGER NOT NULL,
        server_id INTEGER NOT NULL,
        audience TEXT NOT NULL,
        expires_s INTEGER NOT NULL
) STRICT;
CREATE INDEX trl_of_client ON trl (client_id);
CREATE INDEX trl_of_server ON trl (server_id, audience);
CREATE INDEX trl_by_end ON trl (expires_s);

-- The update collection of a party, the last ones: item counts up from 0 for each. The last one stays, so that no number
-- comes twice. removed, added: hashes one after the other. party_id 0: the whole list, which administrators see.
CREATE TABLE trl_updates (
        party_id INTEGER NOT NULL,
        item INTEGER NOT NULL,
        removed BLOB NOT NULL,
        added BLOB NOT NULL,
        PRIMARY KEY (party_id, item)
) STRICT, WITHOUT ROWID;

-- The last token that was looked at for the list; NULL: all of them were.
ALTER TABLE gone ADD COLUMN trl_after INTEGER;
CREATE INDEX gone_not_in_trl ON gone (id) WHERE trl_after IS NOT NULL;

-- A server may have many tokens, of which those alone matter that the list can name.
CREATE INDEX tokens_of_server_in_trl ON tokens (server_id) WHERE trl_hash IS NOT NULL;
CREATE INDEX clients_of_label ON client_labels (label, client_id);
CREATE INDEX refresh_tokens_of_server ON refresh_tokens (server_id);

-- Tokens bound to public keys, with sequence numbers, not before a time, with a client's nonce; refresh tokens.

-- 0: as configured; no refresh tokens.
ALTER TABLE clients ADD COLUMN max_lifetime_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN tokens_max INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN refresh_lifetime_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN may_introspect INTEGER NOT NULL DEFAULT 0 CHECK (may_introspect IN (0, 1));

-- server_id 0: for a group audience. public: the client's key, where pop_key is empty; kid: what it calls it.
-- exi: sequence number of a token that lives expires_s - issued_s seconds after it was first seen. family: of refresh
-- tokens, 0 none. trl_hash: by which a token revocation list names it.
ALTER TABLE tokens ADD COLUMN public BLOB;
ALTER TABLE tokens ADD COLUMN kid BLOB;
ALTER TABLE tokens ADD COLUMN exi INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN nbf_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN cnonce BLOB;
ALTER TABLE tokens ADD COLUMN family INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN trl_hash BLOB;
CREATE UNIQUE INDEX tokens_by_exi ON tokens (server_id, exi) WHERE exi <> 0;
CREATE INDEX tokens_of_family ON tokens (family) WHERE family <> 0;
CREATE INDEX tokens_by_kid ON tokens (client_id, kid) WHERE kid IS NOT NULL;

-- number is drawn with those of tokens. family: the number of the first. used_s: when it was exchanged for the next
-- one. Bound to a key as tokens are.
CREATE TABLE refresh_tokens (
        number INTEGER PRIMARY KEY,
        family INTEGER NOT NULL,
        hash BLOB NOT NULL,
        client_id INTEGER NOT NULL,
        server_id INTEGER NOT NULL,
        audience TEXT NOT NULL,
        scope ANY NOT NULL,
        key_number INTEGER NOT NULL,
        pop_key BLOB NOT NULL,
        public BLOB,
        kid BLOB,
        issued_s INTEGER NOT NULL,
        expires_s INTEGER NOT NULL,
        used_s INTEGER NOT NULL,
        revoked_s INTEGER NOT NULL
) STRICT;
CREATE INDEX refresh_tokens_of_family ON refresh_tokens (family, number);
CREATE INDEX refresh_tokens_of_client ON refresh_tokens (client_id);
CREATE INDEX refresh_tokens_live ON refresh_tokens (client_id) WHERE used_s = 0 AND revoked_s = 0;
CREATE INDEX refresh_tokens_by_end ON refresh_tokens (expires_s);

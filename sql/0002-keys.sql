-- Raw public keys and certificates beside pre-shared keys; the server's own keys; resource servers with several keys.

-- public: of kind rpk the curve's number in one byte, x, and y where the curve has one; of kind x509 the rule that a
-- certificate is matched by (text); else empty.
-- identity: of kind rpk the SHA-256 of the SubjectPublicKeyInfo, of kind x509 the SHA-256 of the rule.
-- secret is empty for both, and secret_mark is made from public. kid: what a client may call the key in req_cnf.
ALTER TABLE credentials ADD COLUMN public BLOB NOT NULL DEFAULT x'';
ALTER TABLE credentials ADD COLUMN kid BLOB;
CREATE UNIQUE INDEX credentials_by_kid ON credentials (client_id, kid) WHERE kid IS NOT NULL;

-- The server's own keys. role: 1 at the DTLS door, 2 signs tokens. public: as in credentials; secret: the private key,
-- sealed; certificate: DER, empty for none. Of the keys of one role and algorithm the one in force is that with the
-- latest active_from_s that is not in the future.
CREATE TABLE as_keys (
        id INTEGER PRIMARY KEY,
        role INTEGER NOT NULL,
        alg INTEGER NOT NULL,
        kid BLOB NOT NULL UNIQUE,
        public BLOB NOT NULL,
        secret BLOB NOT NULL,
        certificate BLOB NOT NULL,
        active_from_s INTEGER NOT NULL,
        created_s INTEGER NOT NULL
) STRICT;

ALTER TABLE servers ADD COLUMN mac_alg INTEGER NOT NULL DEFAULT 0;
ALTER TABLE servers ADD COLUMN sign_alg INTEGER NOT NULL DEFAULT 1;
ALTER TABLE servers ADD COLUMN pop_keys INTEGER NOT NULL DEFAULT 1;
ALTER TABLE servers ADD COLUMN derives_key INTEGER NOT NULL DEFAULT 0 CHECK (derives_key IN (0, 1));
ALTER TABLE servers ADD COLUMN has_trl INTEGER NOT NULL DEFAULT 0 CHECK (has_trl IN (0, 1));
-- The next sequence number of a token with exi (RFC 9200 §5.10.3).
ALTER TABLE servers ADD COLUMN exi_next INTEGER NOT NULL DEFAULT 1;

-- role: 1 protects tokens, 2 PoP keys are derived from it (RFC 9202 §3.3.1). In force: as above.
CREATE TABLE server_keys_of_roles (
        id INTEGER PRIMARY KEY,
        server_id INTEGER NOT NULL REFERENCES servers ON DELETE CASCADE,
        role INTEGER NOT NULL,
        kid BLOB NOT NULL,
        secret BLOB NOT NULL,
        secret_mark BLOB NOT NULL UNIQUE,
        active_from_s INTEGER NOT NULL,
        created_s INTEGER NOT NULL
) STRICT;
INSERT INTO server_keys_of_roles (id, server_id, role, kid, secret, secret_mark, active_from_s, created_s)
        SELECT id, server_id, 1, kid, secret, secret_mark, 0, created_s FROM server_keys;
DROP TABLE server_keys;
ALTER TABLE server_keys_of_roles RENAME TO server_keys;
CREATE INDEX server_keys_of_server ON server_keys (server_id, role, active_from_s);

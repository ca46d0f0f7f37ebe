-- Security contexts (RFC 8613) as credentials, kind 4: secret is the Master Secret, sealed. identity: size of the
-- Recipient ID (1), the Recipient ID, 0 or 1 for an ID Context, the ID Context.

-- recipient_id: what the party sends as kid. id_context: NULL for none. renewed_context: the ID Context in force since
-- the last renewal (RFC 8613 Appendix B.2); NULL: id_context is.
CREATE TABLE oscore_contexts (
        credential_id INTEGER PRIMARY KEY REFERENCES credentials ON DELETE CASCADE,
        recipient_id BLOB NOT NULL,
        sender_id BLOB NOT NULL,
        id_context BLOB,
        renewed_context BLOB,
        alg INTEGER NOT NULL,
        hkdf INTEGER NOT NULL,
        salt BLOB NOT NULL,
        renews INTEGER NOT NULL CHECK (renews IN (0, 1))
) STRICT;
CREATE INDEX oscore_contexts_by_kid ON oscore_contexts (recipient_id);

-- Kind 3: our Sender Sequence Numbers, one row of them for all contexts: none is used under two keys, let alone twice
-- under one, whatever becomes of a credential and whoever registers its secret again.
INSERT INTO leases (kind, next) VALUES (3, 1);

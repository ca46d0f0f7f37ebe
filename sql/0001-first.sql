-- The first schema. A released step is never edited: what changes comes as the next one.
--
-- Times are seconds since 1970 UTC, lifetimes seconds, 0 where there is none. Ids are drawn from leases and are never
-- used again, not even between tables. Scopes are TEXT (tokens with single spaces between) or BLOB (opaque), NULL for
-- none.
-- What is called sealed is AES-256-GCM under the sealing key, bound to its table, column and row.

CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The first number of each kind that nobody has leased.
CREATE TABLE leases (
        kind INTEGER PRIMARY KEY,
        next INTEGER NOT NULL CHECK (next > 0)
) STRICT;
INSERT INTO leases (kind, next) VALUES (0, 1), (1, 1), (2, 1);

CREATE TABLE clients (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        suspended INTEGER NOT NULL CHECK (suspended IN (0, 1)),
        profiles INTEGER NOT NULL,
        default_audience TEXT NOT NULL,
        created_s INTEGER NOT NULL
) STRICT;

CREATE TABLE client_labels (
        client_id INTEGER NOT NULL REFERENCES clients ON DELETE CASCADE,
        label TEXT NOT NULL,
        PRIMARY KEY (client_id, label)
) STRICT, WITHOUT ROWID;

CREATE TABLE servers (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        suspended INTEGER NOT NULL CHECK (suspended IN (0, 1)),
        profiles INTEGER NOT NULL,
        scope_kind INTEGER NOT NULL,
        scopes ANY,
        default_scope ANY,
        token_format INTEGER NOT NULL,
        token_alg INTEGER NOT NULL,
        token_tagged INTEGER NOT NULL CHECK (token_tagged IN (0, 1)),
        default_lifetime_s INTEGER NOT NULL,
        max_lifetime_s INTEGER NOT NULL,
        has_clock INTEGER NOT NULL CHECK (has_clock IN (0, 1)),
        created_s INTEGER NOT NULL
) STRICT;

-- A name of several servers is a group's: then all of them say is_group.
CREATE TABLE audiences (
        name TEXT NOT NULL,
        server_id INTEGER NOT NULL REFERENCES servers ON DELETE CASCADE,
        is_group INTEGER NOT NULL CHECK (is_group IN (0, 1)),
        PRIMARY KEY (name, server_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX audiences_of_server ON audiences (server_id);

-- secret: sealed. secret_mark: the same for the same secret, under the sealing key; looked for in both tables that have
-- it.
CREATE TABLE server_keys (
        id INTEGER PRIMARY KEY,
        server_id INTEGER NOT NULL UNIQUE REFERENCES servers ON DELETE CASCADE,
        kid BLOB NOT NULL,
        secret BLOB NOT NULL,
        secret_mark BLOB NOT NULL UNIQUE,
        created_s INTEGER NOT NULL
) STRICT;

CREATE TABLE credentials (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        client_id INTEGER REFERENCES clients ON DELETE CASCADE,
        server_id INTEGER REFERENCES servers ON DELETE CASCADE,
        identity BLOB NOT NULL,
        secret BLOB NOT NULL,
        secret_mark BLOB NOT NULL UNIQUE,
        created_s INTEGER NOT NULL,
        UNIQUE (kind, identity),
        CHECK ((client_id IS NULL) <> (server_id IS NULL))
) STRICT;
CREATE INDEX credentials_of_client ON credentials (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX credentials_of_server ON credentials (server_id) WHERE server_id IS NOT NULL;

-- subject: a label or a client's name. The order of UNIQUE is that of the lookup, which it answers alone (but for
-- created_s).
CREATE TABLE policies (
        id INTEGER PRIMARY KEY,
        for_label INTEGER NOT NULL CHECK (for_label IN (0, 1)),
        subject TEXT NOT NULL,
        audience TEXT NOT NULL,
        scopes ANY NOT NULL,
        max_lifetime_s INTEGER NOT NULL,
        valid_from_s INTEGER NOT NULL,
        valid_until_s INTEGER NOT NULL,
        created_s INTEGER NOT NULL,
        UNIQUE (for_label, subject, audience, scopes, max_lifetime_s, valid_from_s, valid_until_s)
) STRICT;
CREATE INDEX policies_at_audience ON policies (audience);

-- No foreign keys: a token outlives its client and server, as a revoked one (see gone). pop_key: sealed.
CREATE TABLE tokens (
        number INTEGER PRIMARY KEY,
        key_number INTEGER NOT NULL,
        hash BLOB NOT NULL,
        client_id INTEGER NOT NULL,
        server_id INTEGER NOT NULL,
        audience TEXT NOT NULL,
        scope ANY NOT NULL,
        profile INTEGER NOT NULL,
        issued_s INTEGER NOT NULL,
        expires_s INTEGER NOT NULL,
        revoked_s INTEGER NOT NULL,
        pop_key BLOB NOT NULL
) STRICT;
CREATE INDEX tokens_of_client ON tokens (client_id);
CREATE INDEX tokens_of_server ON tokens (server_id);
CREATE INDEX tokens_by_end ON tokens (expires_s);
-- A key usually has the number of the token that it was made for; those that took it over are found here.
CREATE INDEX tokens_sharing_key ON tokens (key_number) WHERE key_number <> number;

-- Deleted clients and servers that tokens still name: those tokens are revoked since gone_s. One row instead of an
-- update of every token; it may go when the last of them has expired, at until_s.
CREATE TABLE gone (
        id INTEGER PRIMARY KEY,
        is_server INTEGER NOT NULL CHECK (is_server IN (0, 1)),
        name TEXT NOT NULL,
        gone_s INTEGER NOT NULL,
        until_s INTEGER NOT NULL
) STRICT;
CREATE INDEX gone_by_end ON gone (until_s);

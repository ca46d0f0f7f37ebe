-- What was decided and changed, by whom and why. hash: SHA-256 of the hash of the row before and of the record.
CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        at_s INTEGER NOT NULL,
        record BLOB NOT NULL,
        hash BLOB NOT NULL
) STRICT;

-- What was decided and changed, by whom and why. Numbers have no gaps. hash: SHA-256 of the hash of the row before, of
-- seq and at_s in eight bytes each, big-endian, and of record. The number and hash of the last row that was removed
-- stand in meta as audit_start.
CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        at_s INTEGER NOT NULL,
        record BLOB NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- aced itself runs no triggers of a database. These stop the hand of who opens the file with another program: rows
-- come at the end, go at the beginning, the newest stays, and none is changed.
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_no_gap BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit) BEGIN
        SELECT RAISE(ABORT, 'the audit trail is append-only: rows come at its end');
END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN OLD.seq <> (SELECT min(seq) FROM audit) OR OLD.seq = (SELECT max(seq) FROM audit) BEGIN
        SELECT RAISE(ABORT, 'the audit trail is append-only: rows go at its beginning');
END;

"""An audit trail read by other means than aced's: the chain as aced(8) describes it, its records by cbor2."""

import dataclasses
import hashlib
import json

import cbor2

# keys of a record
(DECISION, PEER, CREDENTIAL, UID, PARTY, ACTION, CODE, REFUSAL, WHY, OBJECT, ASKED, GRANTED, TOKEN, POLICIES, MORE_POLICIES,
 EXPIRES, BODY, CUT, SHADOW) = range(1, 20)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A row's number and hash, which stand for all rows up to it."""

    seq: int = 0
    hash: bytes = bytes(32)

    @classmethod
    def parse(cls, text):
        seq, _, hash = text.partition(":")
        return cls(int(seq), bytes.fromhex(hash))

    def __str__(self):
        return f"{self.seq}:{self.hash.hex()}"


def follow(mark, rows):
    """Rows (seq, at_s, record, hash) behind mark, each of which must follow from the one before; the last one's mark."""
    for seq, at_s, record, hash in rows:
        assert seq == mark.seq + 1, f"row {seq} comes behind row {mark.seq}"
        hashed = mark.hash + seq.to_bytes(8, "big") + at_s.to_bytes(8, "big", signed=True) + record
        assert hashlib.sha256(hashed).digest() == hash, f"row {seq} has another hash"
        mark = Mark(seq, hash)
    return mark


def read_export(text):
    """What `acectl audit export` printed: the mark in front, and rows."""
    first, *lines = map(json.loads, text.splitlines())
    rows = [(row["seq"], row["at_s"], bytes.fromhex(row["record_hex"]), bytes.fromhex(row["hash"])) for row in lines]
    return Mark.parse(first["before"]), rows, lines


def read_database(database, after=0):
    return database.execute("SELECT seq, at_s, record, hash FROM audit WHERE seq > ? ORDER BY seq", (after,)).fetchall()


def decode(rows):
    return [cbor2.loads(record) for _, _, record, _ in rows]

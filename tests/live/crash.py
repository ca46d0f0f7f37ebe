"""SIGKILL under load: what was acknowledged holds, what was not is wholly there or wholly not.

    tests/live/crash ROUNDS [--seed N]

In each round devices ask for tokens, several at a time over each session, and operators register, suspend, resume,
delete and revoke at the control socket; one resource server follows the token revocation list (RFC 9770). Others do so
without DTLS, under many security contexts (RFC 8613), with Echo rounds, notifications and renewals: under none of the
keys a nonce may ever come twice, nor a number of ours. aced is killed: at a moment, after so many answers, while it
stops, while it starts. Its files are judged as they lie there; then it is started on them and asked about everything.
"""

import argparse
import base64
import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import cbor2

import coap
import dtls
import oscore
import trail
from realm import FAULTS, Party, Realm, introspect, program
from tokens import open_token, untag

DEVICES, WINDOW = 3, 4        # sessions that ask for tokens, and requests under way on each
OPERATORS, REVOKERS = 3, 2
OSCORE_DEVICES, WATCHERS, WANDERERS = 3, 2, 2  # ask for tokens; follow the list; come under many contexts or new ones
WANDERERS_CONTEXTS = 16       # of each
NAMES = 5                     # clients that an operator has at a time
NOISE_RATE = 200              # tokens a second that nobody keeps count of
LOAD_MAX_S = 0.5
ANSWERS_MAX = 200             # before the kill, where it comes after so many
WHENS = ("at a moment", "after so many answers", "while it stops", "while it starts")
START_MAX_S = 10              # with a database of this size it is some hundredths
ANSWER_MAX_S = 60             # then it is no slow machine, but nobody answering
OLD_TOKENS_ASKED = 50         # of earlier rounds, in each; all are looked up in the database

CONFIG = {
    "server": {"log_level": "notice"},
    "limits": {"tokens_per_client_max": 1000000, "peer_request_rate": 0, "server_request_rate": 0, "source_request_rate": 0,
               "total_request_rate": 0, "source_hello_rate": 0, "source_handshake_rate": 0},
}
BLOCK2, ETAG = 23, 4

# what a caller sees of a server that is gone
LOST = (OSError, http.client.HTTPException, dtls.HandshakeError, json.JSONDecodeError)


class Lost(Exception):
    """The server went before it answered."""


def hash_of(access_token):
    """RFC 9770 §4"""
    return b"\x01" + hashlib.sha256(base64.urlsafe_b64encode(access_token).rstrip(b"=")).digest()


def read_list(session):
    """The asker's part of the revocation list, however many blocks it takes."""
    body, number, etag = b"", 0, None
    while True:
        options = [(BLOCK2, (number << 4 | 6).to_bytes(3, "big").lstrip(b"\0"))]
        answer = session.confirmed(coap.GET, "revoke/trl", options=options)
        assert answer.status == "2.05" and etag in (None, answer.option(ETAG)), answer.status
        body, number, etag = body + answer.payload, number + 1, answer.option(ETAG)
        if not answer.option(BLOCK2) or not answer.option(BLOCK2) & 8:
            return set(cbor2.loads(body)[0])


class Control:
    """The control socket, over one connection that is kept."""

    class Connection(http.client.HTTPConnection):
        def __init__(self, path):
            super().__init__("aced", timeout=ANSWER_MAX_S)
            self.path = str(path)

        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.path)

    def __init__(self, path):
        self.connection = self.Connection(path)

    def ask(self, method, path, body=None):
        """The status and the object answered, None without one."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data else None

    def items(self, path):
        status, answer = self.ask("GET", path + ("&" if "?" in path else "?") + "limit=1000")
        assert status == 200 and answer["next"] is None, (status, answer)
        return answer["items"]

    def close(self):
        self.connection.close()


@dataclasses.dataclass(frozen=True)
class Record:
    """A client's registration, as the operator sees it and as the database has it."""

    suspended: bool = False
    labels: frozenset = frozenset()
    identities: frozenset = frozenset()
    lifetimes: frozenset = frozenset()  # of its policies, which differ in that


@dataclasses.dataclass(eq=False)
class Client:
    """From one registration to its deletion; the name may come again."""

    name: str
    record: Record | None = None      # acknowledged; None: not registered
    pending: tuple = ()               # the record that an unanswered change may have made
    keys: dict = dataclasses.field(default_factory=dict)      # identity: key
    policies: dict = dataclasses.field(default_factory=dict)  # lifetime: id, where the answer said it
    was_registered: bool = False

    def expected(self):
        return {self.record, *self.pending}

    def settle(self, found):
        self.record, self.pending = found, ()
        self.was_registered |= found is not None

    def is_gone(self):
        return self.was_registered and self.record is None


@dataclasses.dataclass(eq=False)
class Token:
    data: bytes
    cti: bytes
    rs: Party
    client: Client | None             # None: one that is never deleted
    round: int
    revoked: bool | None = False      # None: asked for and not answered

    @property
    def number(self):
        return int.from_bytes(self.cti, "big")

    def is_active(self):
        return not self.revoked and not (self.client and self.client.is_gone())


class Ledger:
    """What was acknowledged, over all rounds; and when the server is to be killed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.tokens, self.ctis, self.kids, self.nonces = [], set(), set(), set()
        self.n_unanswered = {}        # device's name: requests that no answer came to
        self.killing, self.n_answers, self.kill_after = threading.Event(), 0, None
        self.n_revocations = self.n_changes = 0
        self.numbers, self.n_notifications, self.n_renewals = {}, 0, 0

    def begin(self, kill_after):
        self.killing.clear()
        self.n_answers, self.kill_after = 0, kill_after

    def answered(self):
        """Called at once with each acknowledgement: the kill must hit what follows it."""
        with self.lock:
            self.n_answers += 1
            return self.n_answers == self.kill_after

    def add_number(self, context, piv, ciphertext):
        """A Partial IV of the server's own: one counter stands behind all contexts."""
        with self.lock:
            known = self.numbers.setdefault(int.from_bytes(piv, "big"), (context, ciphertext))
            assert known == (context, ciphertext), f"number {piv.hex()} came twice"

    def add_token(self, answer, rs, client, round_number):
        _, _, unprotected, claims = open_token(answer[1], rs.token_key)
        header = {**cbor2.loads(untag(answer[1])[1][0]), **unprotected}
        cti, kid, nonce = claims[7], answer[8][1][2], header[5]
        with self.lock:
            assert cti not in self.ctis, f"cti {cti.hex()} came twice"
            assert kid not in self.kids, f"kid {kid.hex()} came twice"
            assert (rs.name, nonce) not in self.nonces, f"nonce {nonce.hex()} came twice under the key of {rs.name}"
            self.ctis.add(cti)
            self.kids.add(kid)
            self.nonces.add((rs.name, nonce))
            self.tokens.append(Token(answer[1], cti, rs, client, round_number))


class Worker(threading.Thread):
    """Works until the server is gone. Anything else that ends it is a fault."""

    def __init__(self, crash, seed):
        super().__init__()
        self.crash, self.ledger, self.realm = crash, crash.ledger, crash.realm
        self.random, self.fault = random.Random(seed), None

    def run(self):
        try:
            self.work()
        except Lost:
            pass
        except LOST as error:
            if not self.ledger.killing.is_set():
                self.fault = error
        except BaseException as error:  # for the thread that joins
            self.fault = error

    def acknowledged(self):
        if self.ledger.answered():
            self.crash.kill()

    def ask_token(self, session, asked):
        message = session.build(coap.POST, "token", cbor2.dumps({5: self.rs.name, 9: "read"}), content_format=coap.ACE_CBOR)
        asked.add(message.token)
        session.wire.send(message.encode())

    def await_one(self, session, take):
        """What take makes of a message, of the first of which it makes something. Confirmable ones are acknowledged."""
        deadline = time.monotonic() + ANSWER_MAX_S
        while True:
            data = session.wire.recv(0.05)
            if data is None:
                if self.ledger.killing.is_set():
                    raise Lost
                assert time.monotonic() < deadline, "no answer"
                continue
            message = coap.decode(data)
            if message.type == coap.CON:
                session.wire.send(coap.Message(coap.ACK, 0, message.mid).encode())
            if (taken := take(message)) is not None:
                return taken

    def take_token(self, session, asked, client):
        """The next answer to one of what was asked, into the ledger."""
        answer = self.await_one(session, lambda message: message if message.token in asked else None)
        if answer.status != "2.01":
            self.refused(answer)
        self.ledger.add_token(cbor2.loads(answer.payload), self.rs, client, self.crash.round)
        asked.discard(answer.token)
        self.acknowledged()

    def refused(self, what):
        """An answer that is no success: right only when the server is stopping."""
        if self.ledger.killing.is_set():
            raise Lost
        raise AssertionError(f"refused while nothing was wrong: {what}")


class Device(Worker):
    """Asks for tokens, WINDOW at a time."""

    def __init__(self, crash, seed, client, rs):
        super().__init__(crash, seed)
        self.client, self.rs = client, rs

    def work(self):
        with self.realm.connect(self.client) as session:
            while True:
                asked = set()
                try:
                    for _ in range(WINDOW):
                        self.ask_token(session, asked)
                    while asked:
                        self.take_token(session, asked, None)
                finally:
                    self.ledger.n_unanswered[self.client.name] += len(asked)


class Hearing:
    """A wire on which nobody waits for an answer of a server that is being killed."""

    def __init__(self, wire, killing):
        self.wire, self.killing = wire, killing
        self.send, self.close = wire.send, wire.close

    def recv(self, timeout):
        deadline = time.monotonic() + timeout
        while (data := self.wire.recv(min(0.05, timeout))) is None and time.monotonic() < deadline:
            if self.killing.is_set():
                raise Lost
        return data


class OscoreWorker(Worker):
    """Speaks under security contexts. What was sent before the end counts, whether it was waited for or not."""

    def work(self):
        self.sessions = []
        try:
            self.speak()
        finally:
            while self.sessions:
                self.end(self.sessions[-1])

    def session(self, context):
        self.sessions.append(self.realm.speak(context))
        self.sessions[-1].wire = Hearing(self.sessions[-1].wire, self.ledger.killing)
        return self.sessions[-1]

    def end(self, session):
        self.sessions.remove(session)
        self.drain(session)
        session.close()

    def drain(self, session):
        while True:
            try:
                data = session.wire.recv(0)
            except OSError:  # that nobody is there is told in between
                continue
            if data is None:
                return
            try:
                self.open(session, coap.decode(data))
            except Lost:
                pass

    def open(self, session, outer):
        """A message for this session; None: it is none. Each number of the server's is of one message only."""
        if outer.token not in session.bindings:
            return None
        try:
            inner, option = session.open(outer)
        except oscore.Unprotected:
            self.refused(outer)
        if option.piv is not None:
            self.ledger.add_number(session.context, option.piv, outer.payload)
        return inner

    def next(self, session):
        """The next message that is one."""
        return self.await_one(session, lambda outer: self.open(session, outer))

    def ask(self, session, code, path, payload=b"", **more):
        """One request, with the Echo that is asked for."""
        echo = []
        for _ in range(5):
            message = session.build(code, path, payload, options=[*echo, *more.get("options", ())],
                                    content_format=coap.ACE_CBOR if payload else None)
            session.send(message)
            while (answer := self.next(session)).token != message.token:
                pass
            echo = [option for option in answer.options if option[0] == oscore.ECHO]
            if answer.code != 0x81 or not echo:
                return answer
        raise AssertionError("an Echo for every Echo")


class OscoreDevice(OscoreWorker):
    """Asks for tokens, WINDOW at a time, under one context for all rounds."""

    def __init__(self, crash, seed, client, rs):
        super().__init__(crash, seed)
        self.client, self.rs = client, rs

    def speak(self):
        session = self.session(self.client.context)
        while True:
            asked = set()
            try:
                for _ in range(WINDOW):
                    self.ask_one(session, asked, ())
                while asked:
                    self.take_one(session, asked)
            finally:
                self.ledger.n_unanswered[self.client.name] += len(asked)

    def ask_one(self, session, asked, options):
        message = session.build(coap.POST, "token", cbor2.dumps({5: self.rs.name, 9: "read"}), coap.ACE_CBOR,
                                options=options)
        asked.add(message.token)
        session.send(message)

    def take_one(self, session, asked):
        answer = self.next(session)
        if answer.token not in asked:
            return
        echo = [option for option in answer.options if option[0] == oscore.ECHO]
        asked.discard(answer.token)
        if answer.code == 0x81 and echo:
            self.ask_one(session, asked, echo)
        elif answer.status != "2.01":
            self.refused(answer)
        else:
            self.ledger.add_token(cbor2.loads(answer.payload), self.rs, None, self.crash.round)
            self.acknowledged()


class Watcher(OscoreWorker):
    """Observes the list of revoked tokens, and does not acknowledge all that it hears."""

    def __init__(self, crash, seed, context):
        super().__init__(crash, seed)
        self.context = context

    def speak(self):
        session = self.session(self.context)
        self.ask(session, coap.GET, ".well-known/core")
        self.ask(session, coap.GET, "revoke/trl", options=[(oscore.OBSERVE, b"")])
        while True:
            self.next(session)
            self.ledger.n_notifications += 1


class Wanderer(OscoreWorker):
    """Comes under many contexts, with an Echo round for each; now and then under a new one (Appendix B.2)."""

    def __init__(self, crash, seed, contexts, renewing):
        super().__init__(crash, seed)
        self.contexts, self.renewing = contexts, renewing

    def speak(self):
        sessions = [self.session(context) for context in self.contexts]
        while not self.ledger.killing.is_set():
            if self.random.random() < 0.1:
                self.renew()
            answer = self.ask(self.random.choice(sessions), coap.GET, ".well-known/core")
            assert answer.status == "2.05", answer

    def renew(self):
        """Whatever became of the last time: with the secret alone it begins anew. Too often is 5.03."""
        session = self.session(self.renewing)
        try:
            session.renew()
            assert self.ask(session, coap.GET, ".well-known/core").status == "2.05"
            self.ledger.n_renewals += 1
        except oscore.Unprotected as told:
            if told.message.status != "5.03":
                self.refused(told)
        self.end(session)


class Revoker(Worker):
    """Revokes what somebody was told that it is his."""

    def work(self):
        control = Control(self.realm.control)
        try:
            while not self.ledger.killing.is_set():
                one = self.choose()
                if one:
                    self.revoke(control, one)
                else:
                    time.sleep(0.001)
        finally:
            control.close()

    def choose(self):
        with self.ledger.lock:
            live = [each for each in self.ledger.tokens[-100:] if each.revoked is False]
            if not live:
                return None
            one = self.random.choice(live)
            one.revoked = None  # from now on, until the answer, nobody knows
            return one

    def revoke(self, control, one):
        if self.random.random() < 0.1:
            done = self.realm.acectl("token", "revoke", one.cti.hex(), check=False)
            ok, said = done.returncode == 0, done.stderr
        else:
            status, said = control.ask("DELETE", f"tokens/{one.cti.hex()}")
            ok = status == 204
        if not ok:
            self.refused(said)
        one.revoked = True
        self.ledger.n_revocations += 1
        self.acknowledged()


class Operator(Worker):
    """Registers and changes clients of its own, and is each of them when it asks for a token."""

    def __init__(self, crash, seed, number, clients, rs):
        super().__init__(crash, seed)
        self.number, self.clients, self.rs = number, clients, rs

    def work(self):
        self.control = Control(self.realm.control)
        try:
            while not self.ledger.killing.is_set():
                self.step()
        finally:
            self.control.close()

    def step(self):
        there = [client for client in self.clients if client.record is not None]
        if len(there) < NAMES and (not there or self.random.random() < 0.2):
            self.add()
            return
        client = self.random.choice(there)
        record = client.record
        # what makes sense now, the usual more often than the end
        steps = [self.toggle, self.label]
        steps += [self.add_credential] * 3 if len(record.identities) < 3 else []
        steps += [self.add_policy] * 3 if len(record.lifetimes) < 3 else []
        steps += [self.delete_credential] if record.identities else []
        steps += [self.delete_policy] if client.policies else []
        steps += [self.delete]
        steps += [self.token] * 4 if record.identities and record.lifetimes and not record.suspended else []
        self.random.choice(steps)(client)

    def change(self, client, record, method, path, body=None):
        """One request that is to make this of the client; the object answered."""
        client.pending = (record,)
        status, answer = self.control.ask(method, path, body)
        if status not in (200, 201, 204):
            self.refused((method, path, body, status, answer))
        client.settle(record)
        self.ledger.n_changes += 1
        self.acknowledged()
        return answer

    def add(self):
        taken = {client.name for client in self.clients if client.record is not None}
        name = self.random.choice([name for n in range(NAMES) if (name := f"operated-{self.number}-{n}") not in taken])
        client = Client(name)
        self.clients.append(client)
        labels = ["new", "unlabelled"]
        self.change(client, Record(labels=frozenset(labels)), "POST", "clients", {"name": name, "labels": labels})

    def delete(self, client):
        self.change(client, None, "DELETE", f"clients/{client.name}")

    def toggle(self, client):
        record = dataclasses.replace(client.record, suspended=not client.record.suspended)
        self.change(client, record, "PATCH", f"clients/{client.name}", {"suspended": record.suspended})

    def label(self, client):
        labels = [f"l{self.random.randrange(1000)}" for _ in range(self.random.randrange(4))]
        record = dataclasses.replace(client.record, labels=frozenset(labels))
        self.change(client, record, "PATCH", f"clients/{client.name}", {"labels": sorted(record.labels)})

    def add_credential(self, client):
        identity, key = f"{client.name}-{self.random.getrandbits(64):x}", self.random.randbytes(16)
        client.keys[identity.encode()] = key
        record = dataclasses.replace(client.record, identities=client.record.identities | {identity.encode()})
        self.change(client, record, "POST", f"clients/{client.name}/credentials",
                    {"identity": identity, "key_hex": key.hex()})

    def delete_credential(self, client):
        ids = {item["identity"].encode(): item["id"] for item in self.control.items(f"clients/{client.name}/credentials")}
        assert set(ids) == client.record.identities
        identity = self.random.choice(sorted(ids))
        record = dataclasses.replace(client.record, identities=client.record.identities - {identity})
        self.change(client, record, "DELETE", f"clients/{client.name}/credentials/{ids[identity]}")

    def add_policy(self, client):
        lifetime = self.random.choice([s for s in range(1000, 3600) if s not in client.record.lifetimes])
        record = dataclasses.replace(client.record, lifetimes=client.record.lifetimes | {lifetime})
        answer = self.change(client, record, "POST", "policies", {
            "client": client.name, "audience": self.rs.name, "scope": "read", "max_lifetime_s": lifetime})
        client.policies[lifetime] = answer["id"]

    def delete_policy(self, client):
        lifetime = self.random.choice(sorted(client.policies))
        record = dataclasses.replace(client.record, lifetimes=client.record.lifetimes - {lifetime})
        self.change(client, record, "DELETE", f"policies/{client.policies.pop(lifetime)}")

    def token(self, client):
        identity = self.random.choice(sorted(client.record.identities))
        with self.realm.connect(Party(client.name, identity, client.keys[identity])) as session:
            asked = set()
            self.ask_token(session, asked)
            self.take_token(session, asked, client)


class Image:
    """The database as it lies there, opened on a copy; SQLite recovers it as aced will."""

    def __init__(self, state, audit_seq=0):
        """audit_seq: the row of the audit trail up to which it is known."""
        self.audit_seq = audit_seq
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="aced-image-"))
        try:
            for name in ("aced.db", "aced.db-wal"):
                if (state / name).exists():
                    shutil.copy(state / name, self.directory)
            self.read(sqlite3.connect(self.directory / "aced.db"))
        finally:
            shutil.rmtree(self.directory)

    def read(self, db):
        check = db.execute("PRAGMA integrity_check").fetchall()
        assert check == [("ok",)], check
        dangling = db.execute("PRAGMA foreign_key_check").fetchall()
        assert not dangling, dangling
        self.clients = {name: (id, bool(suspended)) for id, name, suspended in
                        db.execute("SELECT id, name, suspended FROM clients")}
        self.labels = self.group(db, "SELECT client_id, label FROM client_labels")
        self.next_number, = db.execute("SELECT next FROM leases WHERE kind = 3").fetchone()
        self.identities = self.group(db, "SELECT client_id, identity FROM credentials WHERE client_id IS NOT NULL")
        self.lifetimes = self.group(db, "SELECT subject, max_lifetime_s FROM policies WHERE NOT for_label")
        self.tokens = {number: (key_number, hash, client, revoked) for number, key_number, hash, client, revoked in
                       db.execute("SELECT number, key_number, hash, client_id, revoked_s FROM tokens")}
        self.gone = {id for id, in db.execute("SELECT id FROM gone WHERE trl_after IS NULL")}
        self.listable = {number: hash for number, hash in
                         db.execute("SELECT number, trl_hash FROM tokens WHERE trl_hash IS NOT NULL AND expires_s > ?",
                                    (time.time(),))}
        self.listed = dict(db.execute("SELECT number, hash FROM trl"))
        self.items = {(party, item): (removed, added) for party, item, removed, added in
                      db.execute("SELECT party_id, item, removed, added FROM trl_updates")}
        self.audit = trail.read_database(db, self.audit_seq)
        # nonce ‖ ciphertext ‖ tag, under the one sealing key
        self.sealed = [blob for table, column in (("tokens", "pop_key"), ("credentials", "secret"), ("server_keys", "secret"))
                       for blob, in db.execute(f"SELECT {column} FROM {table}")]
        db.close()

    @staticmethod
    def group(db, select):
        groups = {}
        for key, value in db.execute(select):
            groups.setdefault(key, set()).add(value)
        return groups

    def record(self, name):
        if name not in self.clients:
            return None
        id, suspended = self.clients[name]
        return Record(suspended, frozenset(self.labels.get(id, ())), frozenset(self.identities.get(id, ())),
                      frozenset(self.lifetimes.get(name, ())))


class Crash:
    """A realm, and what it is put through."""

    def __init__(self, seed, quiet=False):
        self.random, self.quiet = random.Random(seed), quiet
        self.ledger, self.round, self.starts_s = Ledger(), 0, []
        self.token_hashes, self.nonces, self.items = {}, {}, {}
        self.audited, self.tokens_audited, self.revocations_audited = trail.Mark(), {}, set()
        self.operated = [[] for _ in range(OPERATORS)]
        self.realm = Realm(CONFIG)
        self.realm.init()
        self.start()
        rss = [self.realm.add_rs(None, alg=alg) for alg in ("AES-CCM-16-64-128", "A128GCM")]
        rss += [self.realm.add_rs(None, "--trl", "yes", alg="A256GCM")]
        self.rss, self.follower = rss, rss[-1]
        self.devices = [self.realm.add_client() for _ in range(DEVICES)]
        self.noise = self.realm.add_client()
        self.askers = list(zip(self.devices, self.rss))
        self.add_oscore()
        for client in [*(client for client, _ in self.askers), self.noise]:
            self.ledger.n_unanswered[client.name] = 0
            for rs in rss:
                self.realm.policy(client, rs)

    def add_oscore(self):
        """Those who have no DTLS; and servers that ask with and without."""
        realm = self.realm
        self.oscore_devices = [realm.add_client(context=[]) for _ in range(OSCORE_DEVICES)]
        self.askers += zip(self.oscore_devices, reversed(self.rss))
        self.watching = [realm.add_context("rs", self.follower) for _ in range(WATCHERS)]
        self.asking = {rs.name: realm.add_context("rs", rs) for rs in self.rss}
        self.wandering = []
        for _ in range(WANDERERS):
            party = realm.add_client(context=[])
            contexts = [realm.add_context("client", party) for _ in range(WANDERERS_CONTEXTS)]
            self.wandering.append((contexts, realm.add_context("client", party, "--renews", "yes")))

    def contexts(self):
        return [*(client.context for client in self.oscore_devices), *self.watching, *self.asking.values(),
                *(context for contexts, _ in self.wandering for context in contexts)]

    def close(self):
        self.realm.close()

    # ---- the server

    def start(self):
        before = time.monotonic()
        self.realm.start()
        self.starts_s.append(time.monotonic() - before)
        assert self.starts_s[-1] < START_MAX_S, f"it took {self.starts_s[-1]:.1f} s to start"

    def kill(self):
        self.ledger.killing.set()
        self.realm.process.send_signal(signal.SIGKILL)

    def kill_when(self, when):
        """End the server; a few words on how."""
        process, after_s = self.realm.process, self.random.uniform(0, LOAD_MAX_S)
        if when == "after so many answers":
            if self.ledger.killing.wait(ANSWER_MAX_S):
                return f"after {self.ledger.kill_after} answers"
            raise AssertionError("the load ended before the server")
        self.ledger.killing.wait(after_s)
        if when != "while it stops":
            self.kill()
            return f"after {1000 * after_s:.0f} ms"
        stop_s = self.random.uniform(0, 0.02)
        self.ledger.killing.set()
        process.terminate()
        time.sleep(stop_s)
        self.kill()
        return f"{1000 * stop_s:.1f} ms after SIGTERM"

    def kill_starts(self):
        """Now and then it does not even get to its feet."""
        for _ in range(self.random.randrange(1, 4)):
            process = self.realm.spawn()
            time.sleep(self.random.uniform(0, 0.05))
            process.kill()
            process.wait()

    # ---- a round

    def workers(self):
        seeds = iter(self.random.getrandbits(64) for _ in range(100))
        return [*(Device(self, next(seeds), client, rs) for client, rs in zip(self.devices, self.rss)),
                *(Operator(self, next(seeds), n, clients, self.rss[n % len(self.rss)])
                  for n, clients in enumerate(self.operated)),
                *(OscoreDevice(self, next(seeds), client, rs) for client, rs in self.askers[DEVICES:]),
                *(Watcher(self, next(seeds), context) for context in self.watching),
                *(Wanderer(self, next(seeds), *contexts) for contexts in self.wandering),
                *(Revoker(self, next(seeds)) for _ in range(REVOKERS))]

    def make_noise(self):
        return subprocess.Popen(
            [program("acebench"), "-u", self.noise.identity.decode(), "--key-hex", self.noise.key.hex(), "-c", "16", "-r",
             str(NOISE_RATE), "-d", "60", "--audience", self.rss[0].name, "--scope", "read", "token",
             f"127.0.0.1:{self.realm.ports['coaps']}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL)

    def load(self, when):
        """Everybody at work until the server is dead; how it died."""
        self.ledger.begin(self.random.randrange(1, ANSWERS_MAX) if when == "after so many answers" else None)
        noise, workers = self.make_noise(), self.workers()
        try:
            for worker in workers:
                worker.start()
            return self.kill_when(when)
        finally:
            self.kill()
            self.realm.process.wait()
            for worker in workers:
                worker.join()
            noise.kill()
            noise.wait()
            for worker in workers:
                if worker.fault:
                    raise worker.fault

    def run_round(self):
        self.round += 1
        when = self.random.choice(WHENS)
        n_tokens, n_changes, n_revocations = len(self.ledger.tokens), self.ledger.n_changes, self.ledger.n_revocations
        n_unanswered = sum(self.ledger.n_unanswered.values())
        how = self.load(when)
        if when == "while it starts":
            self.kill_starts()
        self.judge_image()
        self.start()
        self.judge_answers()
        self.say(f"round {self.round}: killed {when}, {how}; acknowledged {len(self.ledger.tokens) - n_tokens} tokens, "
                 f"{self.ledger.n_revocations - n_revocations} revocations, {self.ledger.n_changes - n_changes} changes; "
                 f"{sum(self.ledger.n_unanswered.values()) - n_unanswered} tokens unanswered; "
                 f"up again in {1000 * self.starts_s[-1]:.0f} ms")

    def say(self, text):
        if not self.quiet:
            print(text, flush=True)

    # ---- judgement

    def judge_image(self):
        image = Image(self.realm.state, self.audited.seq)
        self.judge_audit(image)
        for clients in self.operated:
            self.judge_registrations(clients, image)
        self.judge_tokens(image)
        self.judge_numbers(image)
        self.judge_list(image)

    def judge_list(self, image):
        """What is revoked is listed and was told, with the same commit; and no item was ever another one."""
        for number, hash in image.listable.items():
            _, _, client_id, revoked_s = image.tokens[number]
            is_revoked = revoked_s != 0 or client_id in image.gone
            assert image.listed.get(number) == (hash if is_revoked else None), f"token {number} in the list"
        told = b"".join(added for (party, _), (_, added) in image.items.items() if party == 0)
        latest = max((item for party, item in image.items if party == 0), default=-1)
        if latest < len([party for party, _ in image.items if party == 0]):  # none was forgotten yet
            assert len(told) == 33 * len(image.listed) and all(hash in told for hash in image.listed.values())
        for key, item in image.items.items():
            assert self.items.setdefault(key, item) == item, f"item {key} was another one"
        for party in {party for party, _ in image.items}:
            items = sorted(item for owner, item in image.items if owner == party)
            assert items == list(range(items[0], items[-1] + 1)) and len(items) <= 128, f"items of party {party}: {items}"

    @staticmethod
    def judge_registrations(clients, image):
        for client in clients[:]:
            latest = client is [each for each in clients if each.name == client.name][-1]
            if latest:
                found = image.record(client.name)
                assert found in client.expected(), f"{client.name} is {found}, not {client.expected()}"
                client.settle(found)
                # an answer that was not heard left no policy's number behind
                client.policies = {s: id for s, id in client.policies.items() if found and s in found.lifetimes}
            else:
                assert client.record is None, "a name was free before it was given again"

    def judge_tokens(self, image):
        for each in self.ledger.tokens:
            assert each.number in image.tokens, f"acknowledged token {each.cti.hex()} is lost"
            _, _, client_id, revoked_s = image.tokens[each.number]
            if each.revoked is None:
                each.revoked = revoked_s != 0
            assert (revoked_s != 0) == each.revoked, f"token {each.cti.hex()}: revoked is {each.revoked}, not {revoked_s}"
            if each.client:
                assert (client_id in image.gone) == each.client.is_gone(), f"token {each.cti.hex()} and its client"
        for device, _ in self.askers:
            client_id, _ = image.clients[device.name]
            numbers = {number for number, (_, _, client, _) in image.tokens.items() if client == client_id}
            n = len(numbers)
            n_acknowledged = sum(each.client is None and each.number in numbers for each in self.ledger.tokens)
            n_most = n_acknowledged + self.ledger.n_unanswered[device.name]
            assert n_acknowledged <= n <= n_most, f"{device.name} has {n} tokens, not {n_acknowledged} to {n_most}"

    def judge_audit(self, image):
        """Rows go on behind those of earlier rounds, without a gap; each token has its own, and none is without token."""
        self.audited = trail.follow(self.audited, image.audit)
        for record in trail.decode(image.audit):
            if record[trail.ACTION] == "POST /token" and record[trail.CODE] == 0x41:
                assert record[trail.TOKEN] not in self.tokens_audited, f"token {record[trail.TOKEN]:x} is audited twice"
                self.tokens_audited[record[trail.TOKEN]] = record[trail.PARTY]
            elif record[trail.ACTION].startswith(("DELETE /v1/tokens/", "POST /revoke")) and record[trail.CODE] >> 5 == 2:
                self.revocations_audited.add(record.get(trail.TOKEN))
        assert self.tokens_audited.keys() == image.tokens.keys(), "tokens and their rows"
        for each in self.ledger.tokens:
            assert not each.revoked or each.number in self.revocations_audited, f"{each.cti.hex()} is revoked unaudited"

    def judge_numbers(self, image):
        for number, (key_number, hash, _, _) in image.tokens.items():
            assert key_number == number, "a new token has a new key"
            assert self.token_hashes.setdefault(number, hash) == hash, f"number {number} was given twice"
        assert image.next_number > max(self.ledger.numbers, default=-1), "numbers were used that may be given again"
        for blob in image.sealed:
            assert self.nonces.setdefault(blob[:12], blob) == blob, "two secrets were sealed with one nonce"

    def judge_answers(self):
        control = Control(self.realm.control)
        latest = {client.name: client for clients in self.operated for client in clients}
        there = {item["name"]: item for item in control.items("clients") if item["name"] in latest}
        policies = control.items("policies")
        for client in latest.values():
            if client.record is None:
                assert client.name not in there
                continue
            item = there[client.name]
            identities = {c["identity"].encode() for c in control.items(f"clients/{client.name}/credentials")}
            lifetimes = {p["max_lifetime_s"]: p["id"] for p in policies if p.get("client") == client.name}
            assert client.record == Record(item["suspended"], frozenset(item["labels"]), frozenset(identities),
                                           frozenset(lifetimes))
            client.policies = lifetimes
        control.close()
        self.judge_credentials(self.random.choice(list(latest.values())) if latest else None)
        with self.realm.connect(self.follower) as session:
            listed = read_list(session)
            for each in self.ledger.tokens:
                if each.rs is self.follower:
                    assert (hash_of(each.data) in listed) != each.is_active(), f"token {each.cti.hex()} in the list"
        old = [each for each in self.ledger.tokens if each.round != self.round]
        self.introspect_all([each for each in self.ledger.tokens if each.round == self.round] +
                            self.random.sample(old, min(len(old), OLD_TOKENS_ASKED)))

    def judge_credentials(self, client):
        """Whoever has a key gets in with it; whose key was taken away, or who is suspended, does not."""
        for identity, key in client.keys.items() if client else ():
            party = Party(client.name, identity, key)
            valid = client.record is not None and identity in client.record.identities and not client.record.suspended
            try:
                self.realm.connect(party).close()
                assert valid, f"{identity} was deleted, and got in"
            except dtls.HandshakeError:
                assert not valid, f"{identity} did not get in"

    def introspect_all(self, tokens):
        """Over DTLS, or over OSCORE."""
        for rs in self.rss:
            over_oscore = self.random.random() < 0.5
            with self.realm.speak(self.asking[rs.name]) if over_oscore else self.realm.connect(rs) as session:
                for each in tokens:
                    if each.rs is rs:
                        active = introspect(session, each.data)[10]
                        assert active == each.is_active(), f"token {each.cti.hex()} is active: {active}"

    def finish(self):
        """At the end everything once more; and the log has nothing to say of repairs."""
        self.introspect_all(self.ledger.tokens)
        log = self.realm.log_text()
        said = [line for line in log.splitlines() if line.startswith(("error:", "warning:")) and "as root" not in line]
        assert not said, said
        assert not any(fault.decode() in log for fault in FAULTS), log
        ledger = self.ledger
        return (f"{self.round} rounds: {len(ledger.tokens)} tokens, {ledger.n_revocations} revocations, {ledger.n_changes} "
                f"changes acknowledged; OSCORE: {len(self.contexts())} contexts, {ledger.n_renewals} renewals, "
                f"{ledger.n_notifications} notifications, {len(ledger.numbers)} numbers of the server's and "
                f"{sum(len(c.spent) for c in self.contexts())} nonces, none twice; "
                f"slowest start {1000 * max(self.starts_s):.0f} ms")


def crash(rounds, seed, seconds=None, rounds_min=0, quiet=False):
    """Some rounds; fewer when seconds have passed, but rounds_min. What came of it."""
    deadline = time.monotonic() + (seconds or float("inf"))
    one = Crash(seed, quiet)
    try:
        while one.round < rounds and (one.round < rounds_min or time.monotonic() < deadline):
            one.run_round()
        return one.round, one.finish()
    finally:
        one.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    print(crash(args.rounds, args.seed)[1])


if __name__ == "__main__":
    sys.exit(main())

"""A working realm in a fresh directory: aced, its operator's acectl, and the parties registered with it."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile

import cbor2

import coap
import dtls
import keys
import oscore
from tokens import KEY_SIZES

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACED_BUILDDIR", SOURCE / "build")).resolve()
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 60
# what a sanitizer says when it found something
FAULTS = (b"ERROR: AddressSanitizer", b"ERROR: LeakSanitizer", b"runtime error:")


def program(name):
    return str(BUILD / "src" / name)


def run(*command, check=True, timeout=COMMAND_TIMEOUT_S, **more):
    """Run a command to its end; its text output. Fails with everything it said."""
    done = subprocess.run([str(c) for c in command], capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, **more)
    assert not any(fault in done.stderr for fault in FAULTS), done.stderr.decode(errors="replace")
    done.stdout, done.stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if check and done.returncode != 0:
        raise AssertionError(f"{command} exited with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


@dataclasses.dataclass
class Party:
    """A client or a resource server, and what it speaks with: a PSK, a key pair, that with certificates, or OSCORE."""

    name: str
    identity: bytes
    key: bytes
    token_key: bytes = b""  # a resource server's
    private_key: object = None
    chain: list = dataclasses.field(default_factory=list)  # DER, its own first
    kid: bytes = b""  # what req_cnf may call the public key by
    context: object = None  # oscore.Context
    records: list = dataclasses.field(default_factory=list)  # what was answered when such credentials were made


class Notify:
    """What a service manager would hear: a datagram socket for sd_notify(3)."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.lines = []

    def wait(self, line, process, timeout=START_TIMEOUT_S):
        """Until this line is heard (also when it was before); False when the process ended first."""
        pidfd = os.pidfd_open(process.pid)
        try:
            while line not in self.lines:
                ready, _, _ = select.select([self.socket, pidfd], [], [], timeout)
                assert ready, f"no {line} within {timeout} s; heard {self.lines}"
                if self.socket in ready:
                    self.lines += self.socket.recv(65536).decode().splitlines()
                else:
                    return False
        finally:
            os.close(pidfd)
        return True

    def forget(self):
        self.drain()
        self.lines = []

    def drain(self):
        while select.select([self.socket], [], [], 0)[0]:
            self.lines += self.socket.recv(65536).decode().splitlines()

    def close(self):
        self.socket.close()


class Realm:
    def __init__(self, config=None):
        # a short path: UNIX sockets have room for 107 characters
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="aced-"))
        self.state = self.directory / "state"
        self.control = self.directory / "control.sock"
        self.log = self.directory / "log"
        self.config_path = self.directory / "aced.conf"
        self.process = None
        self.notify = Notify(self.directory / "notify")
        self.stderr_seen = b""
        self.numbers = itertools.count(1)
        self.environment = {}
        self.write_config(config or {})

    # ---- the daemon

    def write_config(self, changes):
        """aced.conf with the tests' own values and changes to them: {"section": {"key": value}}."""
        sections = {
            "server": {"state_directory": self.state, "issuer": "coaps://as.example", "log_level": "debug"},
            "coap": {"listen": "127.0.0.1:0"},
            "coaps": {"listen": "127.0.0.1:0"},
            "control": {"socket": self.control, "group": ""},
        }
        for name, values in changes.items():
            sections.setdefault(name, {}).update(values)
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]"] + [f"{key} = {value}" for key, value in values.items() if value is not None]
        self.config_path.write_text("\n".join(lines) + "\n")

    def init(self):
        return self.acectl("init", "--config", self.config_path)

    def start(self):
        """Start aced and wait until it says that it is ready."""
        self.spawn()
        if not self.notify.wait("READY=1", self.process):
            raise AssertionError(f"aced exited with {self.process.wait()}\n{self.log_text()}")
        status = self.ctl("status")
        self.ports = {door["door"]: int(door["address"].rpartition(":")[2]) for door in status["listen"]}
        return self

    def spawn(self):
        self.notify.forget()
        environment = os.environ | {"NOTIFY_SOCKET": self.notify.path} | self.environment
        environment.pop("JOURNAL_STREAM", None)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([program("aced"), "-c", self.config_path], stderr=log, stdout=log,
                                            stdin=subprocess.DEVNULL, env=environment)
        return self.process

    def stop(self):
        """SIGTERM; its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"aced did not stop within {STOP_TIMEOUT_S} s of SIGTERM\n{self.log_text()}") from None
        self.process = None
        return status

    def kill(self):
        """SIGKILL: nothing can be tidied up."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self):
        self.kill()
        return self.start()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def close(self):
        """Stop what runs and judge how it went."""
        running = self.process is not None and self.process.poll() is None
        status = self.stop() if running else 0
        self.notify.close()
        log = self.log.read_bytes() if self.log.exists() else b""
        shutil.rmtree(self.directory)
        assert status == 0, f"aced exited with {status}\n{log.decode(errors='replace')}"
        assert not any(fault in log for fault in FAULTS), log.decode(errors="replace")

    # ---- the operator

    def acectl(self, *arguments, check=True, **more):
        return run(program("acectl"), "-s", self.control, *arguments, check=check, **more)

    def ctl(self, *arguments):
        """The JSON answer of an acectl verb."""
        text = self.acectl("-o", "json", *arguments).stdout
        return json.loads(text) if text.strip() else None

    def ctl_items(self, *arguments):
        """The rows of a list verb."""
        answer = self.ctl(*arguments)
        return answer["items"] if isinstance(answer, dict) else answer

    def add_client(self, name=None, *options, identity=None, key=None, context=None, **public):
        """public: private_key, with chain for certificates, with kid. context: options for a security context instead."""
        name = name or f"c{next(self.numbers)}"
        party = Party(name, identity or f"id-{name}".encode(), key or os.urandom(16), **public)
        self.acectl("client", "add", name, *options)
        if context is None:
            self.add_credential("client", party)
        else:
            party.context = self.add_context("client", party, *context)
        return party

    def add_rs(self, name=None, *options, alg="AES-CCM-16-64-128", scope="read write", identity=None, key=None, context=None,
               **public):
        name = name or f"rs{next(self.numbers)}"
        party = Party(name, identity or f"id-{name}".encode(), key or os.urandom(16), os.urandom(KEY_SIZES[alg]), **public)
        scopes = ["--scope", scope] if scope else []
        self.acectl("rs", "add", name, "--token-alg", alg, "--token-key-hex", party.token_key.hex(), *scopes, *options)
        if context is None:
            self.add_credential("rs", party)
        else:
            party.context = self.add_context("rs", party, *context)
        return party

    def add_credential(self, noun, party, *options):
        """What the party opens sessions with; of certificates the public key, unless options have --match."""
        if party.private_key is None:
            how = ["--identity-hex", party.identity.hex(), "--key-hex", party.key.hex()]
        elif not party.chain:
            how = ["--kind", "rpk", "--public-key-hex", keys.spki(party.private_key).hex()]
            how += ["--kid-hex", party.kid.hex()] if party.kid else []
        else:
            how = ["--kind", "x509"]
            how += [] if options else ["--match", f"spki:{hashlib.sha256(keys.spki(party.private_key)).hexdigest()}"]
        return self.ctl(noun, "credential", "add", party.name, *how, *options)

    def add_context(self, noun, party, *options):
        """A security context, as the device has it from the provisioning record."""
        answer = self.ctl(noun, "credential", "add", party.name, "--kind", "oscore", *options)
        party.records.append(answer)
        return oscore.Context.of(answer["record"])

    def policy(self, client, audience, scope="read write", *options):
        client, audience = getattr(client, "name", client), getattr(audience, "name", audience)
        return self.ctl("policy", "add", "--client", client, "--audience", audience, "--scope", scope, *options)

    def pair(self, *options, alg="AES-CCM-16-64-128", scope="read write"):
        """A client, a resource server, and the policy between them."""
        client, rs = self.add_client(), self.add_rs(None, *options, alg=alg, scope=scope)
        self.policy(client, rs, scope)
        return client, rs

    # ---- the devices

    def address(self, door):
        return "127.0.0.1", self.ports[door]

    def connect(self, party, wire=None, **more):
        """A DTLS session of this party, or plain datagrams under its security context."""
        if party.context:
            return self.speak(party.context)
        if party.private_key is None:
            return coap.Endpoint((wire or dtls.OpenSsl)(self.address("coaps"), party.identity, party.key, **more))
        wire = wire or dtls.GnuTlsPublicKey
        return coap.Endpoint(wire(self.address("coaps"), party.private_key, party.chain, **more))

    def speak(self, context):
        """OSCORE from an address of its own."""
        return oscore.Endpoint(coap.Udp(self.address("coap")), context)

    def plain(self):
        return coap.Endpoint(coap.Udp(self.address("coap")))

    def url(self, path="", door="coaps"):
        return f"{door}://127.0.0.1:{self.ports[door]}{path}"

    def token(self, client, rs, scope=None, **more):
        """The decoded answer to a token request over a session of its own; it must be granted."""
        with self.connect(client) as session:
            return token(session, rs, scope, **more)

    def introspect(self, rs, access_token):
        """The decoded answer to the resource server's question."""
        with self.connect(rs) as session:
            return introspect(session, access_token)


def token(session, rs, scope=None, **more):
    ask = {5: getattr(rs, "name", rs)} | ({9: scope} if scope is not None else {})
    answer = session.post("token", cbor2.dumps(ask | more.pop("extra", {})), **more)
    assert answer.status == "2.01", (answer.status, answer.payload.hex())
    assert answer.option(coap.CONTENT_FORMAT) == coap.ACE_CBOR
    return cbor2.loads(answer.payload)


def introspect(session, access_token):
    answer = session.post("introspect", cbor2.dumps({11: access_token}))
    assert answer.status == "2.01", (answer.status, answer.payload.hex())
    assert answer.option(coap.CONTENT_FORMAT) == coap.ACE_CBOR
    return cbor2.loads(answer.payload)


def refused(answer, error, status="4.00"):
    """The answer is this OAuth error, in CBOR with integer keys (RFC 9200 §5.8.3)."""
    assert answer.status == status, (answer.status, answer.payload.hex())
    assert answer.option(coap.CONTENT_FORMAT) == coap.ACE_CBOR
    body = cbor2.loads(answer.payload)
    assert body[30] == error and set(body) <= {30, 31, 32}, body
    return body

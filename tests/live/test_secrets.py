"""What is left of keys: searched for in the log, the database, a core dump's absence, and the server's memory by gcore."""

import os
import pathlib
import re
import shutil
import subprocess

import cbor2
import pytest

import oscore
from realm import program, token


def canaries(realm):
    """Keys that are found again wherever they are: {what: bytes}."""
    return {"sealing key": (realm.state / "seal.key").read_bytes()}


def forms(key):
    """As bytes, and as the control socket has it."""
    return {"": key, " in hexadecimal": key.hex().encode(), " in capitals": key.hex().upper().encode()}


def found_in(content, keys):
    return sorted(f"{what}{form}" for what, key in keys.items() for form, text in forms(key).items() if text in content)


def files_of(realm):
    """All that the server has written: state directory (but for the sealing key itself) and log."""
    return [path for path in realm.state.iterdir() if path.name != "seal.key"] + [realm.log]


def parties(realm, keys, alg="AES-CCM-16-64-128"):
    """A client, a resource server and the policy between them, with keys of our own making, taken down in keys."""
    client, rs = realm.add_client(), realm.add_rs(alg=alg)
    realm.policy(client, rs)
    keys |= {f"{client.name}'s PSK": client.key, f"{rs.name}'s PSK": rs.key, f"{rs.name}'s token key": rs.token_key}
    return client, rs


def made_by_server(realm, keys):
    """Keys that the server makes and shows once."""
    name = f"made{next(realm.numbers)}"
    keys[f"{name}'s token key"] = bytes.fromhex(realm.ctl("rs", "add", name, "--scope", "read")["token_key_hex"])
    keys[f"{name}'s new token key"] = bytes.fromhex(realm.ctl("rs", "key", "set", name)["key_hex"])
    keys[f"{name}'s PSK"] = bytes.fromhex(realm.ctl("rs", "credential", "add", name)["key_hex"])
    return name


def context_secrets(record):
    """Of a provisioning record: its secret, and what both ends derive from it."""
    context = oscore.Context.of(record)
    return {"Master Secret": bytes.fromhex(record["master_secret_hex"]), "key of the device": context.sender_key,
            "key of ours": context.recipient_key}


def contexts(realm, client, rs, keys):
    """Security contexts of the two; and one whose secret we chose, to find it where it was typed in, too."""
    made = [(client, realm.add_context("client", client)), (rs, realm.add_context("rs", rs)),
            (client, realm.add_context("client", client, "--secret-hex", os.urandom(24).hex(), "--alg", "A256GCM"))]
    for party in client, rs:
        for n, answer in enumerate(party.records):
            keys |= {f"{what} of {party.name}'s context {n}": key
                     for what, key in context_secrets(answer["record"]).items()}
    return made


def use_contexts(realm, made, rs, keys):
    """A token and its introspection, and what is refused, under OSCORE."""
    answers = []
    for party, context in made:
        with realm.speak(context) as session:
            if party is not rs:
                answers.append(token(session, rs, "read"))
                session.post("token", cbor2.dumps({5: rs.name, 9: "nothing"}))
            else:
                for answer in answers:
                    session.post("introspect", cbor2.dumps({11: answer[1]}))
    for n, answer in enumerate(answers):
        keys[f"PoP key {n} under OSCORE"] = pop_key(answer)
    return answers


def pop_key(answer):
    return answer[8][1][-1]


BLOCK2 = 23


def token_in_blocks(session, rs):
    """An answer cut into blocks of 32 bytes (RFC 7959 §2.4): what is left of it waits at the server."""
    body, payload = b"", cbor2.dumps({5: rs.name, 9: "read"})
    for n in range(100):
        block = (n << 4 | 1).to_bytes(2, "big").lstrip(b"\0")
        answer = session.post("token", payload if n == 0 else b"", options=[(BLOCK2, block)])
        assert answer.status == "2.01", answer
        body += answer.payload
        if not answer.option(BLOCK2) & 8:
            return cbor2.loads(body)
    raise AssertionError("an answer without an end")


def use(realm, client, rs, keys, count=3):
    """Tokens, introspection, a refused request; the PoP keys are taken down."""
    answers = []
    with realm.connect(client) as session:
        for _ in range(count):
            answers.append(token(session, rs, "read"))
        answers.append(token_in_blocks(session, rs))
    with realm.connect(rs) as session:
        for answer in answers:
            session.post("introspect", cbor2.dumps({11: answer[1]}))
    for n, answer in enumerate(answers):
        keys[f"PoP key {n} of {client.name}"] = pop_key(answer)
    return answers


def memory(process, directory):
    """The bytes of a core that gcore writes, or a reason why there is none."""
    if not shutil.which("gcore"):
        pytest.skip("there is no gcore (package gdb)")
    if b"libasan" in pathlib.Path(program("aced")).read_bytes():
        pytest.skip("with AddressSanitizer the address space is too large to be written down")
    done = subprocess.run(["gcore", "-a", "-o", directory / "core", str(process.pid)], capture_output=True, text=True,
                          timeout=120)
    path = directory / f"core.{process.pid}"
    if not path.exists():
        pytest.skip(f"gcore cannot attach: {done.stderr.strip() or done.stdout.strip()}")
    content = path.read_bytes()
    path.unlink()
    return content


def test_no_key_in_log_or_database(realm):
    keys = canaries(realm)
    client, rs = parties(realm, keys)
    made_by_server(realm, keys)
    made = contexts(realm, client, rs, keys)
    answers = use(realm, client, rs, keys) + use_contexts(realm, made, rs, keys)
    with realm.connect(client) as session:
        session.post("token", cbor2.dumps({5: rs.name, 9: "nothing"}))
    keys |= {f"token {n}": answer[1] for n, answer in enumerate(answers)}
    realm.acectl("client", "credential", "add", client.name, "--key-hex", client.key.hex(), check=False)  # refused, not told
    realm.acectl("client", "credential", "add", client.name, "--sender-id-hex", "ff", "--secret-hex",
                 client.records[0]["record"]["master_secret_hex"], check=False)
    realm.ctl("backup", realm.state / "backup")
    for path in files_of(realm):
        assert not found_in(path.read_bytes(), keys), path
    realm.stop()
    for path in files_of(realm):
        assert not found_in(path.read_bytes(), keys), path
    realm.start()


def test_no_core_is_written(realm):
    limits = open(f"/proc/{realm.process.pid}/limits").read()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE), limits
    # not dumpable: everything of it in /proc belongs to root, whoever runs it
    assert os.stat(f"/proc/{realm.process.pid}/maps").st_uid == 0
    if os.getuid() != 0:
        with pytest.raises(PermissionError):
            open(f"/proc/{realm.process.pid}/mem", "rb")


def test_memory_is_searched_where_keys_would_be(realm):
    """The answer that is kept for a duplicate has the PoP key as long as the session is there: so it is found."""
    keys = {}
    client, rs = parties(realm, keys)
    with realm.connect(client) as session:
        answer = token(session, rs, "read")
        content = memory(realm.process, realm.directory)
        assert found_in(content, {"PoP key": pop_key(answer)}) == ["PoP key"]
        # its PSK was for the handshake, the token key for the token
        assert not found_in(content, keys)


def test_no_key_in_memory_after_deletion(realm):
    keys = canaries(realm)
    client, rs = parties(realm, keys)
    second_client, second_rs = parties(realm, keys, alg="A256GCM")
    made = made_by_server(realm, keys)
    use_contexts(realm, contexts(realm, client, rs, keys), rs, keys)
    use(realm, client, rs, keys)
    use(realm, second_client, second_rs, keys)
    for noun, name in (("client", client.name), ("rs", rs.name), ("client", second_client.name), ("rs", second_rs.name),
                       ("rs", made)):
        realm.acectl(noun, "delete", name)
    while (status := realm.ctl("status"))["figures"]["sessions"] > 0 or status["limits"]["oscore_contexts_used"] > 0:
        pass  # each look is after what came in before it; contexts are looked through every ten seconds
    content = memory(realm.process, realm.directory)
    # it is the server's memory indeed: what it is to know is there
    assert b"coaps://as.example" in content
    assert not found_in(content, keys)

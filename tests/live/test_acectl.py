"""acectl: every verb in every output, its exit codes, and what it says to odd names and mistakes."""

import csv
import functools
import io
import json
import os
import pwd
import re
import shutil
import subprocess

import cbor2
import pytest

from realm import BUILD, SOURCE, Party, Realm, program, run
from tokens import open_token

DONE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3
FORMATS = ["table", "json", "csv"]


@functools.cache
def verbs():
    """What acectl's own help for programs lists: {verb: {its options}}."""
    found = {}
    for row in json.loads(run(program("acectl"), "-o", "json", "--help").stdout)["items"]:
        if row["verb"]:
            found.setdefault(row["verb"], set())
            if row["option"]:
                found[row["verb"]].add(row["option"])
    return found


# Every verb once, in an order that works; {x} is filled from what came before
STORY = [
    "status", "metrics", "config show", "config check {config}", "check", "backup {backup}",
    "key rotate --role sign --alg ES256 --overlap 100", "key list", "key show {key}", "key pem {key}", "key delete {key}",
    "client add odd@name:1+2.x_y-z --label a --label b --default-audience rs-{f}", "client list", "client show odd@name:1+2.x_y-z",
    "client set odd@name:1+2.x_y-z --label c", "client suspend odd@name:1+2.x_y-z", "client resume odd@name:1+2.x_y-z",
    "client credential add odd@name:1+2.x_y-z --identity {f}", "client credential list odd@name:1+2.x_y-z",
    "client credential add odd@name:1+2.x_y-z --kind oscore --id-context-hex 01 --alg A256GCM --hkdf SHA-512 --renews yes",
    "client credential list odd@name:1+2.x_y-z",
    "rs add rs-{f} --scope read --token-alg A128GCM", "rs list", "rs show rs-{f}", "rs set rs-{f} --max-lifetime 100",
    "rs set rs-{f} --profile coap_dtls --profile coap_oscore --prefer-profile coap_oscore --oscore-alg A256GCM --oscore-hkdf SHA-512",
    "rs suspend rs-{f}", "rs resume rs-{f}", "rs credential add rs-{f}", "rs credential list rs-{f}", "rs key set rs-{f}",
    "rs credential add rs-{f} --kind oscore", "rs credential list rs-{f}", "rs key list rs-{f}",
    "policy add --client odd@name:1+2.x_y-z --audience rs-{f} --scope read", "policy list",
    "policy add --label a --audience rs-{f} --effect deny --shadow yes --days sat,sun --hours 22:00-06:00",
    "explain odd@name:1+2.x_y-z rs-{f} read", "explain odd@name:1+2.x_y-z rs-{f} --at 2026-01-05T08:00:00Z --key P-256",
    "explain odd@name:1+2.x_y-z rs-{f} --channel oscore",
    "policy test {expectations}",
    "token list --client {client}", "token list", "token list --all", "token show {cti}", "token revoke {cti}",
    "trl list", "audit list --actor uid", "audit verify", "audit export", "export {rows}", "apply {rows} --diff",
    "policy delete {policy}", "client credential delete odd@name:1+2.x_y-z {client_credential}",
    "rs credential delete rs-{f} {rs_credential}", "rs delete rs-{f}", "client delete odd@name:1+2.x_y-z",
]


def readable(output, text):
    if not text:
        return True
    if output == "json":
        return json.loads(text) is not None
    if output == "csv":
        rows = list(csv.reader(io.StringIO(text)))
        return len({len(row) for row in rows}) == 1
    return "\x1b" not in text


@pytest.mark.parametrize("output", FORMATS)
def test_every_verb(shared, output):
    client, rs = shared.pair()
    cti = open_token(shared.token(client, rs, "read")[1], rs.token_key)[3][7].hex()
    values = {"f": output, "config": shared.config_path, "backup": shared.directory / "backup", "client": client.name, "cti": cti,
              "expectations": shared.directory / "expect", "rows": shared.directory / f"rows-{output}"}
    values["expectations"].write_text(f"deny {client.name} {rs.name} nothing\n")
    told = set()
    for line in STORY:
        if "{policy}" in line:
            values["policy"] = next(row["id"] for row in shared.ctl_items("policy", "list")
                                    if row["audience"] == f"rs-{output}")
        if "{key}" in line and "key" not in values:
            values["key"] = next(row["id"] for row in shared.ctl_items("key", "list") if row["state"] == "announced")
        for noun, name in (("client", "odd@name:1+2.x_y-z"), ("rs", f"rs-{output}")):
            if f"{{{noun}_credential}}" in line:
                values[f"{noun}_credential"] = shared.ctl_items(noun, "credential", "list", name)[0]["id"]
        words = line.format(**values).split()
        done = shared.acectl("-o", output, *words)
        # PEM and lines of JSON are what they are, whatever the output
        assert readable("table" if line.startswith(("key pem", "audit export")) else output, done.stdout), (line, done.stdout)
        told |= {verb for verb in verbs() if words[:len(verb.split())] == verb.split()}
        if " list" in line or "show" in line or line.startswith(("status", "explain")):
            assert done.stdout, line
    assert told | {"init"} == set(verbs()), "a verb is missing from this story"


@pytest.mark.parametrize("output", FORMATS)
def test_init(output):
    realm = Realm()
    try:
        done = run(program("acectl"), "-o", output, "init", "--state", realm.state)
        assert (realm.state / "seal.key").stat().st_mode & 0o777 == 0o600 and (realm.state / "aced.db").exists()
        assert "aced" in done.stdout + done.stderr, "it says what comes next"
        key = (realm.state / "seal.key").read_bytes()
        again = run(program("acectl"), "-o", output, "init", "--state", realm.state, check=False)
        assert again.returncode == REFUSED and (realm.state / "seal.key").read_bytes() == key, again.stderr
        realm.start()
    finally:
        realm.close()


def test_init_where_others_can_write(tmp_path):
    for mode, status in ((0o777, REFUSED), (0o770, REFUSED), (0o755, DONE)):
        tmp_path.chmod(mode)
        done = run(program("acectl"), "init", "--state", tmp_path, check=False)
        assert done.returncode == status, (oct(mode), done.stderr)
        assert status == DONE or ("chmod 0700" in done.stderr and not any(tmp_path.iterdir())), done.stderr


def test_keys_are_made_and_shown_once(shared):
    shared.acectl("client", "add", "shown")
    made = shared.ctl("client", "credential", "add", "shown")
    assert len(bytes.fromhex(made["key_hex"])) >= 16 and made["identity"] == "shown"
    (listed,) = shared.ctl_items("client", "credential", "list", "shown")
    assert "key_hex" not in listed and listed["id"] == made["id"]
    rs = shared.ctl("rs", "add", "shown-rs")
    assert len(bytes.fromhex(rs["token_key_hex"])) == 16
    assert "token_key_hex" not in shared.ctl("rs", "show", "shown-rs")
    replaced = shared.ctl("rs", "key", "set", "shown-rs")
    assert re.fullmatch("[0-9a-f]{32}", replaced["key_hex" if "key_hex" in replaced else "token_key_hex"])
    assert rs["token_key_hex"] not in str(replaced)


def test_records_are_shown_once(shared):
    """What the device has to know, as JSON and as CBOR that an independent decoder reads; a list has no secret."""
    shared.acectl("client", "add", "recorded")
    given = ["--secret-hex", "07" * 16, "--salt-hex", "", "--sender-id-hex", "ABCD", "--recipient-id-hex", "01",
             "--id-context-hex", "00ff", "--alg", "ChaCha20-Poly1305", "--hkdf", "SHA-512", "--renews", "yes"]
    made = shared.ctl("client", "credential", "add", "recorded", "--kind", "oscore", *given)
    assert made["record"] == {
        "master_secret_hex": "07" * 16, "master_salt_hex": "", "sender_id_hex": "abcd", "recipient_id_hex": "01",
        "id_context_hex": "00ff", "alg": "ChaCha20-Poly1305", "hkdf": "SHA-512", "renews": True}
    record = bytes.fromhex(made["record_hex"])
    items = {2: b"\7" * 16, 3: 7, 4: 24, 6: b"\0\xff", -1: b"\xab\xcd", -2: b"\1", -3: True}
    assert cbor2.loads(record) == items and cbor2.dumps(items, canonical=True) == record
    drawn = [shared.ctl("client", "credential", "add", "recorded", "--kind", "oscore") for _ in range(3)]
    for field, size in ("master_secret_hex", 16), ("master_salt_hex", 8), ("sender_id_hex", 1):
        values = {each["record"][field] for each in drawn}
        assert len(values) == 3 and {len(bytes.fromhex(value)) for value in values} == {size}, (field, values)
    listed = shared.ctl_items("client", "credential", "list", "recorded")
    for each in [made, *drawn]:
        assert each["record"]["master_secret_hex"] not in str(listed) and "record" not in listed[0]
    table = shared.acectl("client", "credential", "add", "recorded", "--kind", "oscore").stdout
    assert "shown once" in table and re.search(r"^record_hex +a4[0-9a-f]+$", table, re.MULTILINE), table


def test_key_that_acectl_made_works(shared):
    """The credential as printed opens a session, the token key as printed opens the token."""
    rs = shared.add_rs()
    shared.acectl("client", "add", "made")
    made = shared.ctl("client", "credential", "add", "made")
    shared.policy("made", rs)
    key = shared.ctl("rs", "key", "set", rs.name)
    answer = shared.token(Party("made", bytes.fromhex(made["identity_hex"]), bytes.fromhex(made["key_hex"])), rs, "read")
    assert open_token(answer[1], bytes.fromhex(key.get("key_hex") or key["token_key_hex"]))[3][3] == rs.name


def refused(realm, *words, status=REFUSED, tells=()):
    before = realm.ctl("status")["store"]
    done = realm.acectl(*words, check=False)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("acectl: ") and done.stderr.count("\n") <= 10
    for text in tells:
        assert text in done.stderr, (words, done.stderr)
    after = realm.ctl("status")["store"]
    counts = [{key: value for key, value in each.items() if not key.endswith("size")} for each in (before, after)]
    assert counts[0] == counts[1], "half a change is left behind"
    return done


ODD_NAMES = ["", " ", "a b", "-x", ".x", "a/b", "a\nb", "a\tb", "ä", "a" * 65, "a%2fb", "a?b", "a#b", "\x1b[31m", "a'b", 'a"b', "a;b",
             "..", "a\\b"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
@pytest.mark.parametrize("noun", ["client", "rs"])
def test_odd_names_are_refused(shared, noun, name):
    done = refused(shared, noun, "add", "--", name, status=REFUSED if name else USAGE, tells=["name" if name else "NAME"])
    assert "\x1b" not in done.stderr and not re.search(r"[\x00-\x09\x0b-\x1f]", done.stderr)
    # asking for one is harmless too
    assert shared.acectl(noun, "show", "--", name, check=False).returncode in (REFUSED, USAGE)


@pytest.mark.parametrize("name", ["a", "A" * 64, "urn:dev:mac:0024befffe804ff1", "pump+1@site-2_b.c", "0"])
def test_names_that_are_allowed(shared, name):
    shared.acectl("client", "add", name)
    assert shared.ctl("client", "show", name)["name"] == name
    shared.acectl("client", "delete", name)


def test_duplicates_are_named(shared):
    client, rs = shared.add_client(), shared.add_rs()
    refused(shared, "client", "add", client.name, tells=[client.name])
    refused(shared, "rs", "add", rs.name, tells=[rs.name])
    refused(shared, "rs", "add", "second", "--audience", rs.name, tells=[rs.name])
    assert "second" not in [row["name"] for row in shared.ctl_items("rs", "list")]
    other = shared.add_client()
    refused(shared, "client", "credential", "add", other.name, "--identity-hex", client.identity.hex(),
            tells=[client.identity.decode()])
    # AS-008: a secret is shared by two parties, never three
    refused(shared, "client", "credential", "add", other.name, "--identity", "fresh", "--key-hex", client.key.hex(), tells=["key"])
    refused(shared, "rs", "credential", "add", rs.name, "--identity", "fresh", "--key-hex", client.key.hex(), tells=["key"])


MISTAKES = [
    ("client add x --profile nonsense", "profile"), ("client add x --default-audience", "--default-audience"),
    ("client credential add nobody", "nobody"), ("client credential add {client} --key-hex 00", "key"),
    ("client credential add {client} --key-hex xyz", "key"), ("client show nobody", "nobody"), ("client delete nobody", "nobody"),
    ("client set {client} --label -x", "label"), ("rs add x --token-alg DES", "token_alg"), ("rs add x --token-key-hex 00", "key"),
    ("rs add x --scope-kind numbers", "scope_kind"), ("rs add x --max-lifetime -1", "max-lifetime"), ("rs add x --max-lifetime=-1", "max-lifetime"),
    ("rs add x --default-lifetime 10 --max-lifetime 5", "lifetime"),
    ("rs add x --audience one --audience b\x7fad", "audience"), ("rs add x --clock maybe", "clock"),
    ("policy add --audience a --scope read", "client"), ("policy add --client {client} --audience a", "scope"),
    ("policy add --client {client} --label l --audience a --scope read", "label"),
    ("policy add --client {client} --audience {rs} --scope read --from yesterday", "yesterday"),
    ("policy add --client {client} --audience {rs} --scope read --from 200 --until 100", "until"),
    ("policy delete 999999", "999999"), ("policy delete x", "x"), ("token show 00", "00"), ("token revoke zz", "zz"),
    ("token revoke 00000000000000ff", "ff"), ("explain nobody {rs}", "nobody"), ("client list --socket", "--socket"),
    ("client", "client"), ("nonsense", "nonsense"), ("client add", "NAME"), ("client add a b", "b"), ("client add a --nonsense", "--nonsense"),
    ("status -o xml", "xml"), ("client set {client}", "set"),
]


@pytest.mark.parametrize("line,tells", MISTAKES, ids=[row[0] for row in MISTAKES])
def test_mistakes_are_named(shared, line, tells):
    client, rs = shared.add_client(), shared.add_rs()
    before = shared.ctl("status")["store"]
    done = shared.acectl(*line.format(client=client.name, rs=rs.name).split(" "), check=False)
    assert done.returncode in (REFUSED, USAGE), (done.returncode, done.stdout, done.stderr)
    assert tells in done.stderr, done.stderr
    after = shared.ctl("status")["store"]
    assert [before[key] for key in ("clients", "servers", "policies", "tokens")] == \
           [after[key] for key in ("clients", "servers", "policies", "tokens")]


def test_unreachable(tmp_path):
    done = run(program("acectl"), "-s", tmp_path / "none", "status", check=False)
    assert done.returncode == UNREACHABLE and "none" in done.stderr


def test_lists_of_many_pages(realm):
    """More rows than one answer of the control socket has."""
    names = [f"many-{n:04d}" for n in range(250)]
    body = "".join(f'next\nurl = "http://aced/v1/clients"\nunix-socket = "{realm.control}"\nheader = "Content-Type: application/json"\n'
                   f'data = "{{\\"name\\":\\"{name}\\"}}"\noutput = "/dev/null"\n' for name in names)
    subprocess.run(["curl", "-sS", "--fail", "-K", "-"], input=body.removeprefix("next\n").encode(), check=True, timeout=120)
    assert [row["name"] for row in realm.ctl_items("client", "list")] == names
    rows = list(csv.DictReader(io.StringIO(realm.acectl("-o", "csv", "client", "list").stdout)))
    assert len(rows) == 250
    assert realm.acectl("client", "list").stdout.count("many-") == 250


def test_explain_agrees_with_the_token_endpoint(shared):
    client, rs = shared.add_client(), shared.add_rs()
    policy = shared.policy(client, rs, "read")
    told = shared.ctl("explain", client.name, rs.name, "read write")
    assert policy["id"] in [row["id"] for row in told["policies"]]
    text = shared.acectl("explain", client.name, rs.name, "read write").stdout
    assert "read" in text
    with shared.connect(client) as session:
        assert session.post("token", cbor2.dumps({5: rs.name, 9: "read write"})).status == "2.01"
        assert session.post("token", cbor2.dumps({5: rs.name, 9: "write"})).status == "4.00"
    refusal = shared.acectl("-o", "json", "explain", client.name, rs.name, "write", check=False)
    assert "scope" in refusal.stdout + refusal.stderr


# ---- the control socket itself

def curl(realm, path, *arguments):
    done = run("curl", "-sS", "--unix-socket", realm.control, "-w", "\n%{http_code}", f"http://aced{path}", *arguments)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body) if body else None


def test_control_socket_by_curl(shared):
    status, answer = curl(shared, "/v1/status")
    assert status == 200 and answer["version"]
    json_type = ("-H", "Content-Type: application/json")
    status, answer = curl(shared, "/v1/clients", *json_type, "-d", '{"name":"by-curl","labels":["x"]}')
    assert status == 201 and answer["name"] == "by-curl" and answer["labels"] == ["x"]
    status, answer = curl(shared, "/v1/clients", *json_type, "-d", '{"name":"by-curl"}')
    assert status == 409 and answer["error"] == "exists" and "by-curl" in answer["detail"] and answer["decision"]
    status, answer = curl(shared, "/v1/clients", *json_type, "-d", '{"name":')
    assert status == 400 and answer["error"] == "syntax"
    status, answer = curl(shared, "/v1/clients", *json_type, "-d", '{"name":"x","colour":1}')
    assert status == 422 and "colour" in answer["detail"]
    status, answer = curl(shared, "/v1/clients", *json_type, "-d", "x" * 100000)
    assert status == 413
    assert curl(shared, "/v1/clients/by-curl", "-X", "PATCH", *json_type, "-d", '{"suspended":true}')[0] == 200
    assert curl(shared, "/v1/clients/by-curl")[1]["suspended"] is True
    status, answer = curl(shared, "/v1/clients?limit=1")
    assert status == 200 and len(answer["items"]) == 1 and "next" in answer
    assert curl(shared, "/v1/clients/by-curl", "-X", "DELETE")[0] in (200, 204)
    assert curl(shared, "/v1/clients/by-curl")[0] == 404
    assert curl(shared, "/v1/nothing")[0] == 404 and curl(shared, "/token")[0] in (401, 403, 404, 405)
    assert curl(shared, "/v1/status", "-X", "PUT", *json_type, "-d", "{}")[0] == 405


def manual_examples():
    """The curl commands of aced-control(7), each as one line."""
    text = re.sub(r"\\e\n\s*", " ", (SOURCE / "man/aced-control.7").read_text())
    lines = [line for line in text.splitlines() if line.startswith("curl --unix-socket")]
    return [line.replace("\\&", "").replace("\\-", "-").replace("\\e", "\\") for line in lines]


def prepare(realm, line):
    """What an example takes for granted: the client pump, the server tempSensor, credentials, policy, token, or their absence."""
    for noun, name in (("client", "pump"), ("rs", "tempSensor")):
        realm.acectl(noun, "delete", name, check=False)
    makes = re.search(r"/v1/(\w+) +--json", line)
    ids = {}
    if not makes or makes[1] not in ("clients", "servers"):
        pump = Party("pump", b"prepared pump", os.urandom(16))
        realm.acectl("client", "add", "pump")
        realm.add_credential("client", pump)
        sensor = Party("tempSensor", b"prepared sensor", os.urandom(16), os.urandom(16))
        realm.acectl("rs", "add", "tempSensor", "--token-key-hex", sensor.token_key.hex(), "--scope", "read write")
        realm.add_credential("rs", sensor)
        ids["clients/pump/credentials"] = realm.ctl_items("client", "credential", "list", "pump")[0]["id"]
        ids["servers/tempSensor/credentials"] = realm.ctl_items("rs", "credential", "list", "tempSensor")[0]["id"]
        if not makes:
            ids["policies"] = realm.policy(pump, sensor)["id"]
            ids["tokens"] = open_token(realm.token(pump, sensor, "read")[1], sensor.token_key)[3][7].hex()
    if "/v1/keys/" in line: # one that is not in force can be removed, too
        ids["keys"] = realm.ctl("key", "rotate", "--role", "sign", "--overlap", "1000")["id"]
    (realm.directory / "rows").write_text('{"kind":"client","name":"from-a-file"}\n')
    for path, number in ids.items():
        line = re.sub(rf"/v1/{path}/[0-9a-f]+\b", f"/v1/{path}/{number}", line)
    return line.replace("/run/aced/control.sock", str(realm.control))


def test_examples_of_the_manual_run(realm):
    """Each curl command of aced-control(7) succeeds where what it names exists."""
    examples = manual_examples()
    assert len(examples) > 20
    for example in examples:
        line = prepare(realm, example)
        body, _, status = run("bash", "-c", line + " -sS -w '\\n%{http_code}'", cwd=realm.directory).stdout.rpartition("\n")
        assert status == ("204" if "DELETE" in example else "201" if re.search(
            r"(clients|servers|policies|credentials|keys) +--json", example) else "200"), (example, status, body)
        if match := re.search(r"-o (\S+)$", example):
            assert (realm.directory / match[1]).stat().st_size > 0 and status == "200" and not body, example
            continue
        assert (status == "204") == (body == ""), example
        assert "/v1/apply" not in example or re.search(r'"rows": ?1\b', body), body
        # text and lines of JSON apart
        assert not body or re.search(r"/v1/(metrics|export|apply|audit/export)\b|/pem\b", example) or json.loads(body)


def test_manual_names_every_verb_and_option():
    manual = (SOURCE / "man/acectl.1").read_text().replace("\\-", "-")
    plain = run("mandoc", "-T", "utf8", SOURCE / "man/acectl.1").stdout
    plain = re.sub(r".\x08", "", plain)
    for verb, options in verbs().items():
        assert re.search(r"\b" + r"\s+".join(verb.split()) + r"\b", plain), verb
        for option in options:
            assert option in plain or option.removeprefix("--") in manual, (verb, option)


# ---- who may

def outsider():
    """How to run a command as somebody who is neither root nor the server's user; None when we cannot."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return None
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def test_outsiders_are_not_admitted(realm):
    command = outsider()
    if command is None:
        pytest.skip("only root can become somebody else")
    # the directory must not be what stops them, nor the socket's own mode
    os.chmod(realm.directory, 0o755)
    realm.control.chmod(0o666)
    tool = realm.directory / "acectl"
    shutil.copy(BUILD / "src/acectl", tool)
    tool.chmod(0o755)
    done = run(*command, tool, "-s", realm.control, "client", "add", "mallory", check=False, env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode in (REFUSED, UNREACHABLE) and done.stderr, done
    body = run(*command, "curl", "-s", "--unix-socket", realm.control, "-w", "%{http_code}", "http://aced/v1/status",
               check=False).stdout
    assert body.endswith("403") or body.endswith("000")
    assert realm.ctl_items("client", "list") == []


def test_server_of_another_user_serves_that_user(tmp_path):
    """aced needs no root: somebody without any rights runs it and administers it; and so does root."""
    command = outsider()
    if command is None:
        pytest.skip("only root can become somebody else; everything else here shows the same for this user")
    realm = Realm()
    try:
        nobody = pwd.getpwnam("nobody")
        os.chown(realm.directory, nobody.pw_uid, nobody.pw_gid)
        os.chmod(realm.notify.path, 0o666)
        for name in ("aced", "acectl"):
            shutil.copy(BUILD / "src" / name, realm.directory / name)
        os.chmod(realm.config_path, 0o644)
        run(*command, realm.directory / "acectl", "init", "--config", realm.config_path)
        with open(realm.log, "ab") as log:
            realm.process = subprocess.Popen([*command, realm.directory / "aced", "-c", realm.config_path], stderr=log, stdout=log,
                                             env=os.environ | {"NOTIFY_SOCKET": realm.notify.path})
        assert realm.notify.wait("READY=1", realm.process), realm.log_text()
        mine = run(*command, realm.directory / "acectl", "-s", realm.control, "client", "add", "mine")
        assert mine.returncode == DONE
        assert [row["name"] for row in realm.ctl_items("client", "list")] == ["mine"]
    finally:
        realm.close()

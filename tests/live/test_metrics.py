"""GET /v1/metrics: text that Prometheus reads, with counts that are what this test did."""

import dataclasses
import math
import re
import signal
import socket
import time

import pytest

import coap
import dtls
from realm import run, token

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (\S+)")
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def scrape(realm, *options):
    """Headers and body, by curl."""
    text = run("curl", "-sS", "-i", *options, "--unix-socket", realm.control, "http://aced/v1/metrics").stdout
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    return head, body


def parse(text):
    """{name: {labels as frozenset: value}}; what the exposition format forbids fails."""
    assert text.endswith("\n")
    found, types, family = {}, {}, None
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(rf"# HELP ({NAME}) (.+)", line):
            family = match[1]
            assert family not in types, line
        elif match := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line):
            assert match[1] == family and family not in types, line
            types[family] = match[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            base = match[1]
            if types[family] == "histogram":
                base = re.sub("_(bucket|sum|count)$", "", base)
            assert base == family, line
            labels = frozenset((name, re.sub(r'\\[\\"n]', lambda e: ESCAPES[e[0]], value))
                               for name, value in re.findall(LABEL, match[2] or ""))
            samples = found.setdefault(match[1], {})
            assert labels not in samples, line
            samples[labels] = float(match[len(match.groups())])
            assert samples[labels] >= 0
    for name, kind in types.items():
        assert (kind == "counter") == name.endswith("_total"), name
        if kind == "histogram":
            buckets = sorted((float(dict(labels)["le"]), n) for labels, n in found[f"{name}_bucket"].items())
            assert buckets[-1] == (math.inf, found[f"{name}_count"][frozenset()])
            assert [n for _, n in buckets] == sorted(n for _, n in buckets), name
            assert (found[f"{name}_sum"][frozenset()] > 0) == (buckets[-1][1] > 0)
    return found


def value(found, name, **labels):
    return found[name][frozenset(labels.items())]


def moved(before, after):
    """What counted up between the two, and by how much."""
    return {(name, *sorted(labels)): n - before.get(name, {}).get(labels, 0)
            for name, samples in after.items() if name.endswith(("_total", "_count"))
            for labels, n in samples.items() if n != before.get(name, {}).get(labels, 0)}


def test_text_is_what_prometheus_reads(realm):
    head, body = scrape(realm)
    assert head.startswith("HTTP/1.1 200 ")
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head.split("\n")
    found = parse(body)
    assert value(found, "aced_build_info", version=realm.ctl("status")["version"]) == 1
    assert value(found, "aced_resident_bytes") > 1 << 20
    # what Prometheus says that it accepts
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    assert parse(scrape(realm, "-H", f"Accept: {accept}")[1]).keys() == found.keys()
    assert parse(scrape(realm, "-H", "Accept: text/plain")[1]).keys() == found.keys()
    assert scrape(realm, "-H", "Accept: application/json")[0].startswith("HTTP/1.1 406 ")
    assert parse(realm.acectl("metrics").stdout).keys() == found.keys()


def test_counts_are_what_was_done(realm):
    client, rs = realm.pair()
    before = parse(scrape(realm)[1])
    with realm.connect(client) as session:
        for _ in range(3):
            token(session, rs, "read")
        assert session.post("token", b"\xa1").status == "4.00"
        assert session.request(coap.GET, "nowhere").status == "4.04"
    with realm.plain() as plain:
        assert plain.request(coap.GET, ".well-known/core").status == "2.05"
    after = parse(scrape(realm)[1])
    did = moved(before, after)

    def requests(resource, method, code):
        return did.pop(("aced_requests_total", ("code", code), ("method", method), ("resource", resource)))

    assert requests("/token", "POST", "2.01") == 3
    assert requests("/token", "POST", "4.00") == 1
    assert requests("", "", "4.04") == 1
    assert requests("/.well-known/core", "GET", "2.05") == 1
    assert requests("/v1/metrics", "GET", "2.05") == 1  # the first look
    assert did.pop(("aced_refusals_total", ("reason", "malformed"))) == 1
    assert did.pop(("aced_refusals_total", ("reason", "not-found"))) == 1
    assert did.pop(("aced_handshakes_begun_total",)) == did.pop(("aced_handshakes_done_total",)) == 1
    assert did.pop(("aced_cookies_sent_total",)) == 1
    assert did.pop(("aced_requests_total",), None) is None
    assert did.pop(("aced_device_requests_total",)) == 6
    assert did.pop(("aced_batches_total",)) == 6
    assert did.pop(("aced_request_seconds_count",)) == did.pop(("aced_batch_requests_count",)) == 6
    assert did.pop(("aced_commit_seconds_count",)) == 4  # those that need the database
    assert did.pop(("aced_decisions_total",)) == 7
    assert {name for name, *_ in did} == {"aced_datagrams_in_total", "aced_datagrams_out_total"}, did
    assert value(after, "aced_sessions") == 0


def test_status_tells_the_same(realm):
    client, rs = realm.pair()
    with realm.connect(client) as session:
        token(session, rs, "read")
        status, found = realm.ctl("status"), parse(scrape(realm)[1])
        assert status["limits"]["sessions_used"] == value(found, "aced_limit_sessions_used") == 1
    assert status["requests"]["POST /token"] == {"2.01": 1}
    assert status["latency_us"]["count"] == value(found, "aced_request_seconds_count") == 1
    assert status["process"]["database_bytes"] == status["store"]["database_size"]
    for group, prefix in (("figures", "aced_"), ("limits", "aced_limit_"), ("process", "aced_")):
        for name in status[group]:
            assert f"{prefix}{name}" in found or f"{prefix}{name}_total" in found, (group, name)
    # each limit that is configured is told
    configured = {row["key"]: row["value"] for row in realm.ctl_items("config", "show") if row["section"] == "limits"}
    assert configured == {name: status["limits"][name] for name in configured}
    # what is used stands right behind the maximum it is measured by
    names = list(status["limits"])
    for what in ("sessions", "handshakes", "plain_peers", "pending", "sources", "block_bytes", "control_connections"):
        assert names.index(f"{what}_used") == names.index(f"{what}_max") + 1


def test_greedy_peer_is_told_to_come_back(make_realm):
    realm = make_realm({"limits": {"peer_request_rate": 1, "peer_request_burst": 4}}).start()
    client, rs = realm.pair()
    other, _ = realm.pair()
    with realm.connect(client) as session, realm.connect(other) as modest:
        answers = [session.request(coap.GET, "nowhere") for _ in range(8)]
        refused = [answer for answer in answers if answer.status == "4.29"]
        assert {answer.status for answer in answers} == {"4.04", "4.29"}
        assert [answer.option(14) for answer in refused] == [1] * len(refused)  # Max-Age (RFC 8516)
        assert modest.request(coap.GET, "nowhere").status == "4.04"
        assert realm.ctl("status")["refusals"]["rate"] == len(refused)
        # a reload puts another rate in force
        realm.write_config({"limits": {"peer_request_rate": 0}})
        realm.notify.forget()
        realm.process.send_signal(signal.SIGHUP)
        assert realm.notify.wait("READY=1", realm.process)
        assert [session.request(coap.GET, "nowhere").status for _ in range(20)] == ["4.04"] * 20


def test_greedy_source_at_the_coap_door(make_realm):
    realm = make_realm({"limits": {"source_request_rate": 1, "source_request_burst": 3}}).start()
    with realm.plain() as plain:
        statuses = [plain.request(coap.GET, ".well-known/core").status for _ in range(5)]
        assert statuses[:3] == ["2.05"] * 3 and statuses[-1] == "4.29", statuses
    assert realm.ctl("status")["figures"]["refused_source_request_rate"] >= 1


def test_refused_at_the_socket_is_counted(realm):
    before = parse(scrape(realm)[1])
    assert run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", realm.control,
               "http://aced/v1/%zz").stdout == "400"
    did = moved(before, parse(scrape(realm)[1]))
    assert did[("aced_refusals_total", ("reason", "syntax"))] == 1


def test_each_figure_moves_when_it_should(make_realm):
    realm = make_realm({"limits": {"sessions_max": 2}}).start()
    parties = [realm.add_client() for _ in range(3)]
    wrong = dataclasses.replace(parties[0], key=bytes(16))

    def stray():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as strange:
            strange.sendto(b"\x17\xfe\xfd what belongs to nobody", realm.address("coaps"))

    def truncated():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as strange:
            strange.sendto(bytes(20000), realm.address("coap"))

    def duplicate():
        with realm.plain() as plain:
            message = plain.build(coap.GET, ".well-known/core").encode()
            assert plain.raw(message) == plain.raw(message) is not None

    def failed():
        with pytest.raises(dtls.HandshakeError):
            realm.connect(wrong)

    def evicted():
        for session in [realm.connect(party) for party in parties]:
            session.close()

    for act, figure, least in ((stray, "datagrams_stray", 1), (truncated, "datagrams_truncated", 1),
                               (duplicate, "duplicates", 1), (failed, "handshakes_failed", 1),
                               (evicted, "sessions_evicted", 1)):
        before = realm.ctl("status")["figures"]
        act()
        deadline = time.monotonic() + 60  # datagrams without an answer: nothing tells when they have been read
        while (after := realm.ctl("status")["figures"])[figure] == before[figure]:
            assert time.monotonic() < deadline, figure
        assert after[figure] == before[figure] + least, figure

    with realm.connect(parties[0]) as session, realm.plain() as plain:
        assert session.request(coap.GET, "nowhere").status == "4.04"
        assert plain.request(coap.GET, ".well-known/core").status == "2.05"
        limits = realm.ctl("status")["limits"]
    assert limits["sessions_used"] == 1 and limits["peers_rated"] == 3
    assert limits["plain_peers_used"] == 2 and limits["sources_used"] == 1
    assert limits["exchange_records_used"] == limits["answers_used"] == 3
    assert limits["handshakes_used"] == limits["pending_used"] == limits["block_bytes_used"] == 0
    assert limits["control_connections_used"] == 1

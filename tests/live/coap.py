"""CoAP messages (RFC 7252 §3) and just enough of a client to have exact control over what is sent."""

import dataclasses
import itertools
import socket
import time

CON, NON, ACK, RST = range(4)
GET, POST, PUT, DELETE = 1, 2, 3, 4
URI_PATH, CONTENT_FORMAT, MAX_AGE, URI_QUERY, ACCEPT = 11, 12, 14, 15, 17
ACE_CBOR, LINK_FORMAT = 19, 40


@dataclasses.dataclass
class Message:
    type: int
    code: int
    mid: int
    token: bytes = b""
    options: list = dataclasses.field(default_factory=list)  # (number, value)
    payload: bytes = b""

    @property
    def status(self):
        return f"{self.code >> 5}.{self.code & 31:02d}"

    def option(self, number):
        """The value of the first such option as an unsigned integer, or None."""
        for n, value in self.options:
            if n == number:
                return int.from_bytes(value, "big")
        return None

    def encode(self):
        out = bytearray([0x40 | self.type << 4 | len(self.token), self.code]) + self.mid.to_bytes(2, "big") + self.token
        last = 0
        for number, value in sorted(self.options, key=lambda option: option[0]):
            delta, size = _nibble(number - last), _nibble(len(value))
            out += bytes([delta[0] << 4 | size[0]]) + delta[1] + size[1] + value
            last = number
        return bytes(out) + (b"\xff" + self.payload if self.payload else b"")


def _nibble(value):
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes([value - 13])
    return 14, (value - 269).to_bytes(2, "big")


def decode(data):
    assert len(data) >= 4 and data[0] >> 6 == 1, data.hex()
    message = Message(data[0] >> 4 & 3, data[1], int.from_bytes(data[2:4], "big"))
    at = 4 + (data[0] & 15)
    message.token = data[4:at]
    number = 0
    while at < len(data) and data[at] != 0xFF:
        nibbles = [data[at] >> 4, data[at] & 15]
        at += 1
        for i, nibble in enumerate(nibbles):
            if nibble == 13:
                nibbles[i], at = data[at] + 13, at + 1
            elif nibble == 14:
                nibbles[i], at = int.from_bytes(data[at : at + 2], "big") + 269, at + 2
        number += nibbles[0]
        message.options.append((number, data[at : at + nibbles[1]]))
        at += nibbles[1]
    if at < len(data):
        message.payload = data[at + 1 :]
        assert message.payload, "a payload marker and no payload"
    return message


ANSWER_TIMEOUT_S = 60  # of a busy machine


class Endpoint:
    """Requests and answers over something with send(bytes) and recv(timeout) -> bytes or None."""

    def __init__(self, wire):
        self.wire = wire
        self.mids = itertools.count(0x1000)

    def build(self, code, path, payload=b"", content_format=None, accept=None, query=(), type=CON, mid=None, token=None,
              options=()):
        mid = next(self.mids) & 0xFFFF if mid is None else mid
        message = Message(type, code, mid, mid.to_bytes(2, "big") if token is None else token, list(options), payload)
        message.options += [(URI_PATH, segment.encode()) for segment in path.split("/") if segment]
        message.options += [(URI_QUERY, q.encode()) for q in query]
        if content_format is not None:
            message.options.append((CONTENT_FORMAT, content_format.to_bytes(2, "big").lstrip(b"\0")))
        if accept is not None:
            message.options.append((ACCEPT, accept.to_bytes(2, "big").lstrip(b"\0")))
        return message

    def request(self, code, path, payload=b"", timeout=ANSWER_TIMEOUT_S, **more):
        """Send once and return the response, piggybacked or separate (which is acknowledged)."""
        message = self.build(code, path, payload, **more)
        self.wire.send(message.encode())
        return self.response(message.token, timeout)

    def confirmed(self, code, path, payload=b"", **more):
        """The same, sent again while no answer comes, as RFC 7252 §4.2 wants it."""
        message = self.build(code, path, payload, **more)
        for wait_s in (2, 4, 8, 16, 32):
            self.wire.send(message.encode())
            try:
                return self.response(message.token, wait_s)
            except TimeoutError:
                continue
        raise TimeoutError("no answer to five transmissions")

    def response(self, token, timeout=ANSWER_TIMEOUT_S):
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            data = self.wire.recv(left)
            if data is None:
                break
            answer = decode(data)
            if answer.code == 0 or answer.token != token:
                continue
            if answer.type == CON:
                self.wire.send(Message(ACK, 0, answer.mid).encode())
            return answer
        raise TimeoutError(f"no answer within {timeout} s")

    def raw(self, data, timeout=ANSWER_TIMEOUT_S):
        """Send bytes as they are; the next datagram or None."""
        self.wire.send(data)
        return self.wire.recv(timeout)

    def post(self, path, payload, content_format=ACE_CBOR, **more):
        return self.request(POST, path, payload, content_format=content_format, **more)

    def close(self):
        self.wire.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class Udp:
    """Plain CoAP's wire."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(address)

    def send(self, data):
        self.socket.send(data)

    def recv(self, timeout):
        self.socket.settimeout(max(timeout, 0.001))
        try:
            return self.socket.recv(65536)
        except socket.timeout:
            return None

    def close(self):
        self.socket.close()

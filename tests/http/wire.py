# SPDX-License-Identifier: MIT
"""HTTP/1.1 as it goes over the wire, for tests that look at every byte: nothing is mended, and how
a body ended is always told.
"""

import json
import re
import select
import socket
import struct
import time
from pathlib import Path

CHUNK = 65536


class Answer:
    """A response. After read(): `body` decoded; `end` is how it ended: "chunked" or "length" as the
    framing promised, "close" when it had no framing, else what was wrong: "cut" (closed too early),
    "reset", "bad chunk"."""

    def __init__(self, line, fields, bodiless):
        self.version, status, self.reason = (line + "  ").split(" ", 2)
        self.status = int(status)
        self.fields = fields
        self.interim = []  # status codes 1xx that came before
        self.bodiless = bodiless or self.status in (204, 304) or self.status < 200
        self.pieces = []  # (monotonic nanoseconds, decoded bytes), as they came
        self.trailers = []
        self.end = None

    def field(self, name):
        """Its value; None. A field that must be there once must not be there twice."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def body(self):
        return b"".join(data for _, data in self.pieces)

    @property
    def complete(self):
        return self.end in ("chunked", "length", "none", "close")

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.end} {self.fields} {self.body[:400]!r}>"


class Connection:
    """receive_buffer: small, for a reader that shall be slow; segment: small, so that the other side's
    kernel buffers little for it"""

    def __init__(self, address, port, timeout=10.0, receive_buffer=None, source=None, segment=None):
        self.sock = socket.socket(socket.AF_INET)
        self.sock.settimeout(timeout)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect((address, port))
        self.address, self.port = address, port
        self.rest = b""
        self.sent_bodiless = []  # for each request in flight: is it a HEAD?

    # --- out ------------------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method, target, body=None, fields=(), version="1.1"):
        """body: bytes, or what becomes JSON. `fields` come first, Host and Content-Length are added
        where they are missing."""
        self.send(head(method, target, body, fields, version, f"{self.address}:{self.port}"))
        self.sent_bodiless.append(method == "HEAD")

    def ask(self, method, target, body=None, fields=(), version="1.1"):
        """A whole exchange."""
        self.request(method, target, body, fields, version)
        return self.answer().read()

    # --- in -------------------------------------------------------------------------------

    def fill(self):
        """Some more bytes. False at the end of the stream."""
        data = self.sock.recv(CHUNK)
        self.rest += data
        return bool(data)

    def line(self):
        while b"\r\n" not in self.rest:
            if not self.fill():
                raise EOFError(f"the connection ended within a line: {self.rest[:200]!r}")
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line.decode("latin-1")

    def head(self):
        line = self.line()
        assert re.match(r"^HTTP/1\.[01] \d{3} ", line), f"no status line: {line!r}"
        fields = []
        while text := self.line():
            name, colon, value = text.partition(":")
            assert colon and re.match(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", name), f"field {text!r}"
            fields.append((name, value.strip(" \t")))
        return line, fields

    def answer(self, interim=False):
        """The next response's head; 1xx are passed over, and remembered."""
        passed = []
        while True:
            line, fields = self.head()
            bodiless = bool(self.sent_bodiless and self.sent_bodiless[0])
            answer = WireAnswer(self, line, fields, bodiless)
            if answer.status < 200 and answer.status != 101 and not interim:
                passed.append(answer.status)
                continue
            answer.interim = passed
            if self.sent_bodiless and answer.status >= 200:
                self.sent_bodiless.pop(0)
            return answer

    def readable(self, seconds):
        return bool(self.rest) or bool(select.select([self.sock], [], [], seconds)[0])

    def closed(self, seconds=2.0):
        """Has the other side closed, with nothing more to read?"""
        self.sock.settimeout(seconds)
        try:
            return not self.rest and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def unread(self):
        """Bytes that have arrived on the other side, and that nobody there has read."""
        ports = self.port, self.sock.getsockname()[1]
        for path in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(path).read_text().splitlines()[1:]:
                words = line.split()
                if tuple(int(word.rpartition(":")[2], 16) for word in words[1:3]) == ports:
                    return int(words[4].partition(":")[2], 16)
        return 0

    def close(self):
        self.sock.close()

    def leave(self):
        """Closes; when, in monotonic nanoseconds."""
        now = time.monotonic_ns()
        self.sock.close()
        return now

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.leave()


class WireAnswer(Answer):
    """An answer that is still arriving."""

    def __init__(self, connection, line, fields, bodiless):
        super().__init__(line, fields, bodiless)
        self.connection = connection
        chunked = (self.field("transfer-encoding") or "").lower() == "chunked"
        length = self.field("content-length")
        assert not (chunked and length), "both framings"
        self.left = None
        if self.bodiless:
            self.framing = "none"
        elif chunked:
            self.framing = "chunked"
        elif length is not None:
            self.framing, self.left = "length", int(length)
        else:
            self.framing = "close"

    def piece(self):
        """The next bytes of the body as they came (one chunk, where chunked); b"" at the end."""
        if self.end:
            return b""
        try:
            data = getattr(self, "_" + self.framing)()
        except EOFError:
            self.end, data = "cut", b""
        except ConnectionResetError:
            self.end, data = "reset", b""
        if data:
            self.pieces.append((time.monotonic_ns(), data))
        return data

    def read(self):
        while self.piece():
            pass
        return self

    def until(self, text):
        """Reads on until the body has `text`."""
        while text not in self.body:
            assert self.piece(), f"the body ended ({self.end}) without {text!r}: {self.body[-300:]!r}"
        return self

    def _none(self):
        self.end = "none"
        return b""

    def _length(self):
        if not self.left:
            self.end = "length"
            return b""
        if not self.connection.rest and not self.connection.fill():
            raise EOFError
        data = self.connection.rest[:self.left]
        self.connection.rest = self.connection.rest[len(data):]
        self.left -= len(data)
        if not self.left:
            self.end = "length"
        return data

    def _close(self):
        if not self.connection.rest and not self.connection.fill():
            self.end = "close"
            return b""
        data, self.connection.rest = self.connection.rest, b""
        return data

    def _chunked(self):
        line = self.connection.line()
        if not re.match(r"^[0-9A-Fa-f]{1,16}$", line):  # extensions: nobody has asked for them
            self.end = "bad chunk"
            return b""
        size = int(line, 16)
        if not size:
            while text := self.connection.line():
                name, _, value = text.partition(":")
                self.trailers.append((name, value.strip()))
            self.end = "chunked"
            return b""
        while len(self.connection.rest) < size + 2:
            if not self.connection.fill():
                self.pieces.append((time.monotonic_ns(), self.connection.rest[:size]))
                raise EOFError
        data, crlf = self.connection.rest[:size], self.connection.rest[size:size + 2]
        self.connection.rest = self.connection.rest[size + 2:]
        if crlf != b"\r\n":
            self.end = "bad chunk"
        return data


def head(method, target, body=None, fields=(), version="1.1", host="megalith"):
    """The bytes of a request, body and all."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/{version}"]
    names = {field.split(":")[0].lower() for field in fields}
    if "host" not in names:
        lines.append(f"Host: {host}")
    if body is not None and not names & {"content-type"}:
        lines.append("Content-Type: application/json")
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *fields]).encode("latin-1") + b"\r\n\r\n" + (body or b"")


# --- bodies ---------------------------------------------------------------------------------------

def events(body):
    """The data of each event of an SSE stream, JSON where it is; and what was left at the end
    without an empty line behind it."""
    *blocks, rest = body.decode().split("\n\n")
    found = []
    for block in blocks:
        data = "\n".join(line.partition(":")[2].removeprefix(" ") for line in block.split("\n")
                         if line.startswith("data:"))
        if data:
            found.append(data if data == "[DONE]" else json.loads(data))
    return found, rest


def lines(body):
    """The documents of NDJSON; and what was left at the end without a line feed behind it."""
    *whole, rest = body.decode().split("\n")
    return [json.loads(line) for line in whole if line], rest


MASKS = [
    (re.compile(rb'"(created|total_duration|load_duration|prompt_eval_duration|eval_duration)":\d+'),
     rb'"\1":0'),
    (re.compile(rb'"(id|response_id|item_id|call_id)":"([a-z]+)[-_][^"]*"'), rb'"\1":"\2"'),
    (re.compile(rb'"(created_at|expires_at|modified_at)":("[^"]*"|\d+)'), rb'"\1":0'),
]


def masked(body):
    """Without what differs from one answer of a node to the next: times and numbers."""
    for pattern, put in MASKS:
        body = pattern.sub(put, body)
    return body

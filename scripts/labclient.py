# SPDX-License-Identifier: MIT
"""Clients of a lab's personas: what an app would send, from inside a client's namespace."""

import http.client
import json

from labfarm import COMMON_MODEL


class Http(http.client.HTTPConnection):
    """An HTTP connection made from a machine of the lab."""

    def __init__(self, machine, address, port, timeout=10.0):
        super().__init__(address, port, timeout=timeout)
        self.machine = machine

    def connect(self):
        self.sock = self.machine.connect(self.host, self.port, self.timeout)


def generate_node(machine, address, port, model=COMMON_MODEL):
    """One whole short answer of /api/generate over a new connection: which node gave it."""
    connection = Http(machine, address, port)
    try:
        body = json.dumps({"model": model, "prompt": "hello", "stream": False,
                           "options": {"num_predict": 1}})
        connection.request("POST", "/api/generate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status}: {text[:100]!r}")
        return node_of(answer)
    finally:
        connection.close()


def node_of(answer):
    """megalith-simnode says its name in every answer."""
    return answer.headers["x-simnode"]


class Stream:
    """A streamed answer that goes on: it keeps a place on its node until it is closed."""

    def __init__(self, machine, address, port, model=COMMON_MODEL, tokens=1_000_000):
        self.connection = Http(machine, address, port)
        try:
            body = json.dumps({"model": model, "prompt": "tell me a long story",
                               "options": {"num_predict": tokens}})
            self.connection.request("POST", "/api/generate", body,
                                    {"Content-Type": "application/json"})
            self.answer = self.connection.getresponse()
            self.node = node_of(self.answer)
            self.token()
        except BaseException:
            self.connection.close()
            raise

    def token(self):
        """The next token; EOFError at the end, OSError when it was cut."""
        try:
            line = self.answer.readline()
        except http.client.IncompleteRead as error:
            raise ConnectionResetError("cut in the middle") from error
        if not line:
            raise EOFError("end of the answer")
        return json.loads(line)["response"]

    def close(self):
        self.connection.close()
        self.answer.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Chat:
    """A chat in OpenAI's dialect through the router."""

    def __init__(self, machine, address, port, model, **more):
        self.connection, self.events, self.cut = Http(machine, address, port), [], False
        self.buffer = b""
        try:
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
            self.connection.request("POST", "/v1/chat/completions", json.dumps(body),
                                    {"Content-Type": "application/json"})
            self.answer = self.connection.getresponse()
        except BaseException:
            self.connection.close()
            raise

    def field(self, name):
        return self.answer.headers[f"x-megalith-{name}"]

    @property
    def node(self):
        return self.field("node")

    def event(self):
        """The next event of a stream, or the whole answer; empty at the end."""
        while True:
            while b"\n" not in self.buffer and (more := self.answer.read1(65536)):
                self.buffer += more
            ended = b"\n" not in self.buffer
            line, _, self.buffer = self.buffer.partition(b"\n")
            if text := line.decode().strip().removeprefix("data: "):
                self.events.append(text)
                return text
            if ended:
                return ""

    def read(self):
        """To the end, be it a good one or not."""
        try:
            while self.event():
                pass
        except (http.client.HTTPException, ConnectionError):
            self.cut = True

    @property
    def whole(self):
        return self.answer.status == 200 and bool(self.events) and not self.cut

    def close(self):
        self.connection.close()
        self.answer.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def simulate(machine, node, port=11434, **settings):
    """How a simulated node is to behave from now on: megalith-simnode(1)."""
    connection = Http(machine, node.v4, port)
    try:
        connection.request("POST", "/sim/set", json.dumps(settings))
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status}: {text[:100]!r}")
    finally:
        connection.close()


def wyoming_node(machine, address, port):
    """`describe` of the Wyoming protocol: one line of JSON, then data_length bytes of JSON."""
    with machine.connect(address, port) as sock, sock.makefile("rb") as stream:
        sock.sendall(b'{"type":"describe"}\n')
        event = json.loads(stream.readline())
        data = event.get("data") or {}
        if event.get("data_length"):
            data |= json.loads(stream.read(event["data_length"]))
        return data["asr"][0]["name"]

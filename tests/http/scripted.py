# SPDX-License-Identifier: MIT
"""A node whose every byte a test decides: threads of the test behind one listening socket.

    node.script = function(request)     called in a thread for each request that is no probe
    node.requests                       all of them, in order of arrival
    node.deaf = True                    probes are answered no more, all else is

Probes are answered as Ollama and ComfyUI do. A script that returns leaves the connection open for the next
request; request.close() and request.reset() end it.
"""

import contextlib
import json
import socket
import struct
import threading
import time

OK = b'{"done":true,"choices":[]}'
ESTABLISHED = 1  # linux/tcp_states.h


class Request:
    """What arrived: `head` as it came, `body` decoded. And the means to answer."""

    def __init__(self, node, sock, stream, head):
        self.node, self.sock, self.stream, self.head = node, sock, stream, head
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ", 2)
        self.fields = [(n.lower(), v.strip()) for n, _, v in (l.partition(":") for l in lines[1:])]
        self.body = None
        self.arrived_ns = time.monotonic_ns()
        self.left_ns = None  # when the other side closed
        self.left, self.done = threading.Event(), False

    def field(self, name):
        return next((v for n, v in self.fields if n == name), None)

    def read_body(self):
        if (self.field("transfer-encoding") or "").lower() == "chunked":
            self.body = b""
            while size := int(self.stream.readline().split(b";")[0], 16):
                self.body += self.stream.read(size)
                self.stream.readline()
            while self.stream.readline().strip():
                pass
        else:
            self.body = self.stream.read(int(self.field("content-length") or 0))

    def send(self, data):
        self.sock.sendall(data)

    def answer(self, status=200, body=OK, *fields):
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}",
                 "Content-Type: application/json", *fields]
        self.done = True
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def begin(self, kind="text/event-stream", *fields):
        """The head of a stream."""
        self.send("\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked",
                               f"Content-Type: {kind}", *fields]).encode() + b"\r\n\r\n")

    def end(self):
        self.done = True  # before the other side can know it
        self.send(b"0\r\n\r\n")

    def document(self):
        return json.loads(self.body)

    def wait_left(self, seconds=5):
        """Until the other side has closed; monotonic nanoseconds, or None."""
        self.sock.settimeout(seconds)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return None
        except OSError:
            pass
        self.left_ns = time.monotonic_ns()
        self.left.set()
        return self.left_ns

    def abandoned(self):
        """Has the other side closed by now? As the kernel knows it."""
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:
            return True
        return info[0] != ESTABLISHED

    def close(self):
        raise EOFError

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise EOFError


class Node:
    def __init__(self, name, spec):
        service = next(iter(spec["services"].values()))
        self.name, self.address, self.models = name, spec["address"], service.get("pin", [])
        listed = json.dumps({"models": [{"name": m, "model": m, "digest": "0" * 64, "size": 1,
                                         "expires_at": "2318-01-01T00:00:00Z"}
                                        for m in self.models]}).encode()
        self.probes = {"/api/tags": listed, "/api/ps": listed,
                       "/api/version": b'{"version":"0.12.0"}',
                       "/prompt": b'{"exec_info":{"queue_remaining":0}}'}
        self.listener, self.lock, self.open = None, threading.Lock(), set()
        self.script, self.requests, self.deaf = None, [], False
        self.active = self.max_active = 0
        self._listen(0)
        self.port = service["port"] = self.listener.getsockname()[1]

    @property
    def target(self):
        return self.address, self.port

    def _listen(self, port):
        self.listener = socket.create_server((self.address, port), backlog=128)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def start(self):
        if not self.listener:
            self._listen(self.port)

    def alive(self):
        return self.listener is not None

    def stop(self):
        """Refuses; open connections are reset."""
        if self.listener:
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        with self.lock:
            for sock in self.open:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RD)

    def calm(self):
        """As new; nobody has a connection to it left from an earlier test."""
        self.script, self.requests, self.max_active, self.deaf = None, [], 0, False
        with self.lock:
            for sock in self.open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self.start()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = sock.makefile("rb")
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                self._one(sock, stream)
        with self.lock:
            self.open.discard(sock)
        stream.close()
        sock.close()

    def _one(self, sock, stream):
        lines = []
        while line := stream.readline():
            if line == b"\r\n":
                break
            lines.append(line)
        if not line:
            raise EOFError
        request = Request(self, sock, stream, b"".join(lines).rstrip(b"\r\n"))
        if request.method == "GET" and request.target in self.probes:
            if self.deaf:
                raise EOFError
            request.answer(200, self.probes[request.target])
            return
        with self.lock:
            self.requests.append(request)
            self.active += 1
            self.max_active = max(self.max_active, self.active)
        try:
            if self.script:
                self.script(request)
            else:
                request.read_body()
                request.answer()
        finally:
            with self.lock:
                self.active -= 1

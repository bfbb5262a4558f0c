# SPDX-License-Identifier: MIT
"""The two scripted nodes as one: what the n-th request of a test meets, wherever it arrives."""

import threading

from farm import wait_until

MODEL = "raw"  # both nodes have it, two places each


class Lab:
    def __init__(self, farm):
        self.farm, self.lock = farm, threading.Lock()
        self.nodes = [farm.nodes["x1"], farm.nodes["x2"]]
        self.requests = []  # of both, in order
        self.overlaps = []  # requests that came while the same was still open elsewhere
        self.errors = []
        self.go = threading.Event()  # what held() waits for

    def play(self, *scripts):
        """The first request meets the first script, ...; all further ones the last."""
        def run(request):
            request.read_body()
            with self.lock:
                earlier = [r for r in self.requests if same(r, request) and not r.done
                           and not r.abandoned()]
                n = len(self.requests)
                self.requests.append(request)
                if earlier:
                    self.overlaps.append(request)
            try:
                scripts[min(n, len(scripts) - 1)](request)
            finally:
                request.done = True
        for node in self.nodes:
            node.script = run
        return self

    def wait_requests(self, count, seconds=5):
        wait_until(lambda: len(self.requests) >= count, f"{count} requests at the nodes", seconds,
                   0.002)
        return self.requests[count - 1]

    def other(self, node):
        return next(n for n in self.nodes if n is not node)

    def nodes_of_requests(self):
        return [request.node.name for request in self.requests]


def same(one, other):
    """Of one client's request? The model's name may differ, the words do not (dialect.ask())."""
    return words(one) == words(other)


def words(request):
    try:
        return request.document()["messages"]
    except (ValueError, KeyError, TypeError):
        return request.body


def answers(dialect, text="fine"):
    """A good answer, whole or streamed."""
    def script(request):
        if not dialect.stream:
            request.answer(200, dialect.whole(text))
            return
        request.begin(dialect.kind)
        for word in text.split(" "):
            request.chunk(dialect.piece(word))
        request.chunk(dialect.last())
        request.end()
    return script


def held(lab, dialect):
    """Begins to answer at once, so that no timer runs, and goes on when lab.go is set."""
    def script(request):
        if dialect.stream:
            request.begin(dialect.kind)
            request.chunk(dialect.piece(""))
        else:
            body = dialect.whole("fine")
            request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                         b"Content-Length: %d\r\n\r\n" % len(body) + body[:1])
        assert lab.go.wait(10)
        if dialect.stream:
            request.chunk(dialect.piece("fine"))
            request.chunk(dialect.last())
            request.end()
        else:
            request.send(body[1:])
    return script

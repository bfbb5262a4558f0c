# SPDX-License-Identifier: MIT
"""Random lives against the router: clients of every kind, nodes that fail, come and go, reloads,
drains, a controller that is killed. Afterwards nothing is lost, nothing is left, and every answer
that came whole was a right one. And: memory does not grow with the number of requests.

What is done is drawn from a fixed seed; when, is the machine's. MEGALITH_TEST_ALL=1 for long ones.
"""

import base64
import collections
import contextlib
import copy
import json
import os
import random
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

import wire
from dialect import CASES
from farm import ALIASES, CALM, DIRECT, NODES, Farm, LabError, missing, wait_until
from lab import MODEL, held

pytestmark = pytest.mark.router
ALL = bool(os.environ.get("MEGALITH_TEST_ALL"))
SEED, CLIENTS, SECONDS = 3, 50, 120 if ALL else 8
REQUESTS, WARM_UP = (200_000 if ALL else 20_000), 5_000
LIFE_KIB, GROWTH_KIB = 2048, 256  # that may be left of a life; that 15,000 requests may leave
# So that glibc's malloc keeps no large blocks: what is measured is what is held.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
HEAD_S, BODY_S = 15, 1  # a client's patience: for the head of an answer, for more of its body

# who may answer what: alias or model → nodes
WHO = {"reasoning": "c1 c2 h1", "code": "c1 c2 h1", "rag": "h1", "vision": "m1", "fast": "s1",
       "gpt-4": "c1 c2 h1", "raw": "x1 x2", "cruncher/deepseek-r1:latest": "c1 c2 h1", "phi": "s2"}
FAULTS = ["hang", "hang-head", "close", "reset", "status=429", "status=503", "status=500",
          "sse-error", "slow-head=20", "truncate", "cut=2", "reset-after=2", "end=2",
          "error-after=2", "bad-chunk=2"]
SIMULATED = ["c1", "c2", "h1", "m1", "s1", "s2"]


class Unclean(Exception):
    """The answer did not end well, and that could be seen."""


@pytest.fixture
def own_farm():
    if DIRECT or missing():
        pytest.skip("no router here")
    with Farm(router={"queue_length": 32}, env=GIVE_BACK) as made:
        yield made


def sanitized(farm):
    return b"__asan_init" in (farm.bin / "megalith-proxy").read_bytes()


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def push(connection, data):
    """As much as is taken."""
    with contextlib.suppress(OSError):
        connection.send(data)


# --- the scripted nodes ---------------------------------------------------------------------------

class Moody:
    """The nodes x1 and x2: by what the request says they behave, and notice whom both work for."""

    def __init__(self):
        self.lock, self.at_work, self.overlaps = threading.Lock(), {}, []

    def __call__(self, request):
        request.read_body()
        key = request.field("x-request-id")
        with self.lock:
            for other in self.at_work.get(key, []):
                if not other.done and not other.abandoned():
                    self.overlaps.append(key)
            self.at_work.setdefault(key, []).append(request)
        try:
            self.behave(request, random.Random(f"{key} {request.node.name}"))
        finally:
            with self.lock:
                request.done = True
                self.at_work[key].remove(request)

    def behave(self, request, dice):
        try:
            asked = request.document()
            dialect = next(d for d in CASES if d.path == request.target
                           and d.stream == asked["stream"])
        except (ValueError, TypeError, KeyError, StopIteration):
            request.answer(400, b'{"error":"odd"}')
            return
        mood = dice.randrange(16)
        if mood == 0:
            request.close()
        elif mood == 1:
            request.reset()
        elif mood == 2:
            request.answer(dice.choice([429, 503, 502]), dialect.failure("moody"))
        elif mood == 3:
            request.wait_left(1)
            request.close()
        elif dialect.stream:
            self.stream(request, dialect, dice)
        else:
            text = request.node.name * dice.choice([1, 10, 100_000])
            request.answer(200, dialect.whole(text))

    def stream(self, request, dialect, dice):
        request.begin(dialect.kind)
        for _ in range(dice.randrange(1, 20)):
            request.chunk(dialect.piece(request.node.name * dice.choice([1, 1, 1, 20_000])))
            if dice.randrange(60) == 0:
                request.reset()
            if dice.randrange(60) == 0:
                request.close()
        request.chunk(dialect.last())
        request.end()


def tunnel(request):
    """y1: an echo behind an upgrade; anything else is answered."""
    if request.field("upgrade") is None:
        request.read_body()
        request.answer()
        return
    request.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                 b"Connection: Upgrade\r\n\r\n")
    while data := request.stream.read1(65536):
        request.send(data)
    request.close()


# --- clients --------------------------------------------------------------------------------------

class Client(threading.Thread):
    """One life after the other until the time is over."""

    def __init__(self, farm, number, until):
        super().__init__(name=f"client {number}")
        self.farm, self.number, self.until = farm, number, until
        self.dice, self.serial = random.Random(SEED * 1000 + number), 0
        self.counts, self.wrong = collections.Counter(), []
        kinds = [(self.ask, 30), (self.abort, 20), (self.slow, 5), (self.pipeline, 8),
                 (self.large, 3), (self.bad, 8), (self.port, 10), (self.websocket, 5),
                 (self.lists, 8)]
        self.kinds, self.weights = zip(*kinds)

    def run(self):
        while time.monotonic() < self.until:
            kind = self.dice.choices(self.kinds, self.weights)[0]
            name = kind.__name__
            try:
                kind()
                self.counts[name] += 1
            except Unclean as unclean:
                self.counts[f"{name}: {unclean}"] += 1
            except Exception as error:  # an AssertionError, mostly
                self.wrong.append(f"{self.name} {name} {self.id()}: {error!r}"[:800])

    # --- means ----------------------------------------------------------------------------

    def id(self):
        return f"life-{self.number}-{self.serial}"

    @contextlib.contextmanager
    def connection(self, target=None, **options):
        connection = wire.Connection(*(target or self.farm.router), HEAD_S, **options)
        try:
            yield connection
        except (ConnectionResetError, BrokenPipeError, EOFError) as error:
            raise Unclean(type(error).__name__) from error
        finally:
            if self.dice.randrange(2):
                connection.reset()
            else:
                connection.close()

    def question(self, model=None, **more):
        """dialect, model, bytes of a request"""
        self.serial += 1
        dialect = self.dice.choice(CASES)
        model = model or self.dice.choice([name for name in WHO if dialect.openai or name != "phi"])
        document = dialect.ask(model, **more)
        document["options" if not dialect.openai else "max_tokens"] = (
            self.dice.randrange(1, 12) if dialect.openai else {"num_predict": self.dice.randrange(1, 12)})
        return dialect, model, wire.head("POST", dialect.path, document,
                                         [f"x-request-id: {self.id()}"])

    def judge(self, dialect, model, answer, whole=True):
        """An answer that has been read: right, an error in the dialect's shape, or an unclean end."""
        assert answer.end != "bad chunk", answer
        assert answer.field("x-request-id") == self.id() or not whole, answer
        if not answer.complete:
            raise Unclean(f"{answer.status} {answer.end}")
        if answer.status != 200:
            assert answer.status >= 400 and dialect.error_of(answer.json()), answer
            # only s2 has phi, and may be out; itself it is asked for what it has not, before it is
            # known what it has
            assert answer.status != 404 or model == "phi" or answer.field("x-simnode") == "s2", answer
            raise Unclean(f"status {answer.status}")
        node = answer.field("x-megalith-node")
        assert node in WHO[model].split(), f"{model} by {node}"
        self.judge_text(dialect, node, answer)

    def judge_text(self, dialect, node, answer):
        if dialect.stream:
            found, rest = dialect.documents(answer.body)
            assert found and not rest, answer
            if dialect.error_of(found[-1]):
                raise Unclean("error event")
            assert dialect.is_last(found[-1]), answer
            text = "".join(dialect.text_of(d) for d in found)
        else:
            text = dialect.text(answer)
        assert node in text, f"{node} is not in {text[:200]}"

    def answered(self, connection):
        """Reads one answer to its end, or as long as the patience lasts."""
        answer = connection.answer()
        connection.sock.settimeout(BODY_S)
        try:
            answer.read()
        except TimeoutError as error:  # a node that hangs after its head
            raise Unclean("hangs") from error
        connection.sock.settimeout(HEAD_S)
        return answer

    # --- lives ----------------------------------------------------------------------------

    def ask(self):
        """Some, over a kept connection."""
        with self.connection() as connection:
            for _ in range(self.dice.randrange(1, 4)):
                dialect, model, data = self.question()
                connection.send(data)
                answer = self.answered(connection)
                self.judge(dialect, model, answer)
                if answer.field("connection") == "close":
                    return

    def abort(self):
        """Leaves at any moment: within the request, behind it, within the answer."""
        _, _, data = self.question()
        with self.connection() as connection:
            if self.dice.randrange(3) == 0:
                connection.send(data[:self.dice.randrange(len(data))])
                return
            connection.send(data)
            connection.sock.settimeout(self.dice.choice([0.001, 0.01, 0.1]))
            left = self.dice.randrange(3000)
            with contextlib.suppress(TimeoutError):
                while left > 0 and (got := connection.sock.recv(left)):
                    left -= len(got)

    def slow(self):
        """A large answer of a moody node, taken in sips."""
        dialect, model, data = self.question("raw")
        with self.connection(receive_buffer=4096, segment=536) as connection:
            connection.send(data)
            answer = connection.answer()
            connection.sock.settimeout(BODY_S)
            wire_piece, sips = answer.piece, self.dice.randrange(1, 60)
            while sips and wire_piece():
                sips -= 1
                connection.readable(0) or time.sleep(0.002)
            if answer.end:
                self.judge(dialect, model, answer)

    def pipeline(self):
        """Several in one write; the answers come in order."""
        asked = [self.question(self.dice.choice(["fast", "rag", "raw"])) for _ in range(3)]
        serials = range(self.serial - 2, self.serial + 1)
        with self.connection() as connection:
            connection.send(b"".join(data for _, _, data in asked))
            for (dialect, model, _), self.serial in zip(asked, serials):
                answer = self.answered(connection)
                self.judge(dialect, model, answer)
                if answer.field("connection") == "close":
                    return

    def large(self):
        size = self.dice.choice([300_000, 2_000_000, 5_000_000, 17_000_000])
        dialect, model, data = self.question(None, text="long " * (size // 5))
        with self.connection() as connection:
            if self.dice.randrange(4) == 0:
                data = data[:self.dice.randrange(len(data))]
                connection.send(data)
                return
            connection.send(data)
            self.judge(dialect, model, self.answered(connection))

    def bad(self):
        dialect, model, _ = self.question()
        body, fields = self.dice.choice([
            (b'{"model":', []), (b"[1,2]", []), (b'{"model":7}', []), (b'{"model":"nobody-has-it"}', []),
            (b"", ["Content-Length: 0"]), (b"zz\r\nabc", ["Transfer-Encoding: chunked"]),
            (b"3\r\n{}}\r\n0\r\n\r\n", ["Transfer-Encoding: chunked"]),
            (b"{}", ["Content-Length: 2", "Transfer-Encoding: chunked"]),
            (b"{}", ["Content-Length: 2", "Connection: host"]),
            (b"{}", ["Content-Length: 2", "Expect: the-unexpected"]),
            (b'{"model":"fast","x":' + b"[" * 5000, []), (b"\x00\xff" * 50, [])])
        with self.connection() as connection:
            connection.request("POST", dialect.path, body, [*fields, f"x-request-id: {self.id()}"])
            answer = self.answered(connection)
            assert 400 <= answer.status < 500, answer
            if answer.complete:
                json.loads(answer.body)

    def port(self):
        persona = self.dice.choice(["cruncher", "swarm", "media-lab", "lab", "fat-brain"])
        dialect, _, data = self.question()
        nodes = {"cruncher": "c1 c2 h1", "swarm": "s1 s2", "media-lab": "m1", "lab": "x1 x2",
                 "fat-brain": "h1"}[persona].split()
        with self.connection(("127.0.0.1", self.farm.port(persona))) as connection:
            if self.dice.randrange(3) == 0:
                connection.request("GET", self.dice.choice(["/", "/v1/models", "/api/version"]))
            else:
                connection.send(data)
            if self.dice.randrange(4) == 0:
                connection.readable(self.dice.random() / 20)
                return
            answer = self.answered(connection)
            if answer.status == 200:
                assert answer.field("x-megalith-node") in nodes, answer

    def websocket(self):
        persona = self.dice.choice(["studio", "studio", "media-lab"])
        with self.connection(("127.0.0.1", self.farm.port(persona, "image"))) as connection:
            key = base64.b64encode(self.dice.randbytes(16)).decode()
            data = self.dice.randbytes(self.dice.choice([1, 1000, 300_000]))
            connection.request("GET", "/ws?clientId=1", None, [
                "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
                "Sec-WebSocket-Version: 13"])
            answer = connection.answer(interim=True)
            if answer.status != 101:
                raise Unclean(f"status {answer.status}")
            if persona == "media-lab" or self.dice.randrange(3) == 0:
                return
            sender = threading.Thread(target=push, args=(connection, data))
            sender.start()
            try:
                if self.dice.randrange(3):
                    self.take(connection, data)
            finally:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
                sender.join()

    def take(self, connection, data):
        connection.sock.settimeout(HEAD_S)
        while len(connection.rest) < len(data):
            if not connection.fill():
                raise EOFError
        assert connection.rest == data, "not the bytes that were sent"

    def lists(self):
        with self.connection() as connection:
            for path in self.dice.sample(["/v1/models", "/api/tags", "/api/ps", "/health", "/nowhere",
                                          "/health/readiness", "/v1/models/fast", "/metrics"], 3):
                answer = connection.ask("GET", path)
                assert answer.complete and answer.status in (200, 404, 503), answer


# --- what happens to the farm meanwhile -----------------------------------------------------------

class Fate:
    def __init__(self, farm):
        self.farm, self.dice = farm, random.Random(SEED)
        self.counts = collections.Counter()
        self.config = farm.config()
        self.drained = set()

    def strike(self):
        kinds = [(self.fault, 8), (self.mend, 8), (self.restart, 3), (self.reload, 5),
                 (self.drain, 3)]
        kind = self.dice.choices(*zip(*kinds))[0]
        kind()
        self.counts[kind.__name__] += 1

    def fault(self):
        node = self.farm.nodes[self.dice.choice(SIMULATED)]
        if node.alive():
            node.set(fail=self.dice.choice(FAULTS), fail_times=self.dice.randrange(1, 20))

    def mend(self):
        for name in SIMULATED:
            node = self.farm.nodes[name]
            if node.alive():
                node.set(**CALM)

    def restart(self):
        node = self.farm.nodes[self.dice.choice(SIMULATED + ["x1", "x2", "y1"])]
        node.stop()
        with contextlib.suppress(LabError):
            node.start()

    def reload(self):
        """Some nodes out, the rest in another order."""
        document = copy.deepcopy(self.config)
        names = list(document["nodes"])
        out = set(self.dice.sample(["c2", "s2", "x2"], self.dice.randrange(3)))
        self.dice.shuffle(names)
        document["nodes"] = {n: document["nodes"][n] for n in names if n not in out}
        for persona in document["personas"].values():
            persona["nodes"] = [n for n in persona["nodes"] if n not in out]
            self.dice.shuffle(persona["nodes"])
        self.farm.write_config(document)
        self.farm.ctl("reload")

    def drain(self):
        if self.drained:
            self.farm.ctl("undrain", self.drained.pop(), check=False)
        else:
            name = self.dice.choice(["c1", "h1", "s1", "x1"])
            self.farm.ctl("drain", name, check=False)
            self.drained.add(name)

    def kill_controller(self):
        controller = self.farm.controller
        controller.end(signal.SIGKILL)
        controller.start()
        controller.wait_ready()
        self.counts["kill_controller"] += 1

    def appease(self):
        """All as it was."""
        self.farm.write_config()
        self.farm.ctl("reload")
        for name in self.drained:
            self.farm.ctl("undrain", name)
        self.farm.calm()


def live(farm, seconds):
    """The lives; clients and fate, when it is over."""
    until = time.monotonic() + seconds
    clients = [Client(farm, number, until) for number in range(CLIENTS)]
    fate = Fate(farm)
    killed = 0
    for client in clients:
        client.start()
    while (left := until - time.monotonic()) > 0:
        fate.strike()
        if left < seconds / 2 and not killed:
            fate.kill_controller()
            killed = 1
        time.sleep(fate.dice.random() / 20)  # how fast blows follow each other
    fate.mend()
    for client in clients:
        client.join(60)
    assert not any(client.is_alive() for client in clients), "a client hangs"
    return clients, fate


def test_life__nothing_is_lost_and_nothing_is_left(own_farm):
    farm, moody = own_farm, Moody()
    for name in ("x1", "x2"):
        farm.nodes[name].script = moody
    farm.nodes["y1"].script = tunnel
    pid, before, kib = farm.proxy_pid, descriptors(farm.proxy_pid), farm.rss_kib()
    clients, fate = live(farm, SECONDS)
    counts = sum((client.counts for client in clients), collections.Counter())
    print(json.dumps(dict(sorted((counts + fate.counts).items())), indent=1))
    wrong = [text for client in clients for text in client.wrong]
    assert not wrong, f"{len(wrong)} wrong: " + "\n".join(wrong[:8])
    assert not moody.overlaps, f"two nodes at work for one request: {moody.overlaps[:5]}"
    assert farm.proxy_lives(pid), "the proxy has died"
    fate.appease()
    farm.wait_idle(5)
    wait_until(lambda: descriptors(pid) <= before, "all connections are closed", 10, 0.05)
    assert farm.metric("megalith_http_queue_length") == 0
    for name, nodes in WHO.items():  # and it is as good as new
        dialect = CASES[0]
        with contextlib.closing(wire.Connection(*farm.router)) as connection:
            answer = connection.ask("POST", dialect.path, dialect.ask(name))
        assert answer.status == 200 or nodes == "x1 x2", answer
    print(f"{kib} KiB before, {farm.rss_kib()} KiB after")
    assert sanitized(farm) or farm.rss_kib() - kib < LIFE_KIB, "memory is held"


def test_life__a_node_leaves_the_configuration_while_it_is_being_connected_to(farm, lab, connect):
    """The proxy sleeps while both happen, so it meets them in one turn of its loop."""
    dialect, document = CASES[0], farm.config()
    lab.play(held(lab, dialect))
    holders = [connect() for _ in range(2)]
    late = connect()
    assert late.ask("GET", "/health").status == 200
    farm.ctl("drain", "x2")
    for holder in holders:
        holder.request("POST", dialect.path, dialect.ask(MODEL))
    lab.wait_requests(2)
    farm.ctl("undrain", "x2")
    assert {node for node in lab.nodes_of_requests()} == {"x1"}
    farm.wait_for(lambda: farm.nodes_up() == farm.full, "x2 may be asked")
    del document["nodes"]["x2"]
    document["personas"]["lab"]["nodes"] = ["x1"]
    farm.write_config(document)
    os.kill(farm.proxy_pid, signal.SIGSTOP)
    try:
        late.request("POST", dialect.path, dialect.ask(MODEL))
        farm.ctl("reload")
    finally:
        os.kill(farm.proxy_pid, signal.SIGCONT)
    try:
        farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 1, "it waits for x1")
        lab.go.set()
        answer = late.answer().read()
        assert dialect.text(answer) and answer.field("x-megalith-node") == "x1"
        assert answer.field("x-megalith-attempts") == "2", "it was not being connected to"
    finally:
        lab.go.set()
        farm.write_config()
        farm.ctl("reload")


# --- memory ---------------------------------------------------------------------------------------

BATCH, THREADS = 25, 6


def batch(dice):
    """Pipelined requests of all kinds; the last one ends the connection."""
    parts = []
    for i in range(BATCH):
        fields = ["Connection: close"] if i == BATCH - 1 else []
        dialect, kind = dice.choice(CASES), dice.randrange(12)
        if kind == 0:
            parts.append(wire.head("GET", dice.choice(["/v1/models", "/api/tags", "/metrics"]), None, fields))
        elif kind == 1:
            parts.append(wire.head("POST", dialect.path, dialect.ask(f"unknown-{dice.random()}"), fields))
        elif kind == 2:
            parts.append(wire.head("POST", dialect.path, b'{"model":', fields))
        elif kind == 3:
            parts.append(wire.head("POST", dialect.path, dialect.ask("fast", "long " * 10_000), fields))
        else:
            parts.append(wire.head("POST", dialect.path, dialect.ask(dice.choice(list(ALIASES))), fields))
    return b"".join(parts)


def load(farm, number, count, problems):
    """So many requests; some connections are left in the middle."""
    dice = random.Random(SEED * 100 + number)
    for _ in range(count // BATCH):
        connection = wire.Connection(*farm.router, 30)
        sender = threading.Thread(target=push, args=(connection, batch(dice)), daemon=True)
        sender.start()
        try:
            if dice.randrange(20) == 0:
                connection.fill()
                connection.reset()
                continue
            data = b"".join(iter(lambda: connection.sock.recv(65536), b""))
            found = len(re.findall(rb"HTTP/1\.1 \d{3} ", data))
            if found != BATCH:
                problems.append(f"{found} answers, not {BATCH}: ...{data[-300:]}")
        except OSError as error:
            problems.append(repr(error))
        finally:
            connection.close()


def loaded(farm, count):
    problems = []
    threads = [threading.Thread(target=load, args=(farm, count + n, count // THREADS, problems))
               for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[:3]
    farm.wait_idle(5)
    return farm.rss_kib()


def test_memory__does_not_grow_with_the_number_of_requests(own_farm):
    farm = own_farm
    for node in farm.simulated():
        node.set(ttft_ms=0, tps=1_000_000, tokens=3)
    warm = loaded(farm, WARM_UP)
    began = time.monotonic()
    kib = [loaded(farm, (REQUESTS - WARM_UP) // 3) for _ in range(3)]
    print(f"{warm} KiB after {WARM_UP}, then {kib} up to {REQUESTS} requests; "
          f"{(REQUESTS - WARM_UP) / (time.monotonic() - began):.0f} a second")
    assert sanitized(farm) or kib[-1] - warm < GROWTH_KIB, "it grows"

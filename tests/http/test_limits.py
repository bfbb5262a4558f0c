# SPDX-License-Identifier: MIT
"""At the edge: buffers that fill up in the very last read, no descriptors left, as many clients as
there may be."""

import base64
import copy
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import wire
from dialect import STREAMS, WHOLES
from farm import (ALIASES, BUILD, DIRECT, NODES, Farm, LabError, missing, pushed_until_stuck,
                  wait_until)
from lab import MODEL, answers, held
from test_faults import hang

pytestmark = pytest.mark.router

def test_slow_reader__the_kept_connection_of_its_node_is_read_again(lab, connect, farm):
    """The proxy stops reading from a node whose client is slow; when that is with the last bytes of
    the answer, the connection is kept all the same, and must be of use."""
    dialect = WHOLES[0]
    farm.stop("x2")
    farm.wait_down("x2")

    def served():
        return farm.metric("megalith_http_requests_total", node="x1")

    def big(size):
        return lambda request: request.answer(200, b" " * size)

    def push(size):
        before = served()
        lab.play(big(size))
        client = connect(receive_buffer=4096, segment=536)
        client.request("POST", dialect.path, dialect.ask(MODEL))
        try:
            wait_until(lambda: served() > before, "the node has been read", 0.4, 0.003)
        except LabError:
            return False
        finally:
            client.close()
        lab.play(answers(dialect))
        answer = connect().ask("POST", dialect.path, dialect.ask(MODEL))
        assert dialect.text(answer) == "fine"
        assert answer.field("x-megalith-attempts") == "1", f"not read, after {size} bytes"
        return True
    print(f"stuck at {pushed_until_stuck(push)} bytes")


def test_pipeline__bodies_that_are_too_many_to_be_kept_come_later(lab, connect):
    """While the first is being answered not all that follows is read; afterwards it has to be, also
    when that ends in the middle of a body; and a client that leaves then must be noticed."""
    dialect, count = WHOLES[0], 6
    lab.play(*[held(lab, dialect)] * (count - 1), hang(dialect))
    client = connect()
    data = b"".join(wire.head("POST", dialect.path, dialect.ask(MODEL, f"{n} " + "long " * 10_000))
                    for n in range(count))
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    lab.wait_requests(1)
    wait_until(lambda: client.unread(), "the router has stopped reading")
    lab.go.set()
    for _ in range(count - 1):
        assert dialect.text(client.answer().read()) == "fine"
    sender.join()
    request = lab.wait_requests(count)
    client.leave()
    assert request.left.wait(1), "nobody has noticed that the client left"


# --- as many clients as there may be --------------------------------------------------------------

NOFILE, CLIENTS = 96, 16  # main: 64 are spare, two for each client


@pytest.fixture(scope="module")
def small_farm():
    if DIRECT or missing():
        pytest.skip("no router here")
    with Farm(nodes={"s1": copy.deepcopy(NODES["s1"])}, aliases={"fast": ALIASES["fast"]},
              personas={"swarm": {"nodes": ["s1"], "listen": ["llm"]}}, nofile=NOFILE) as made:
        yield made
        made.wait_idle()


@pytest.fixture
def clients(small_farm):
    """clients(count): so many connections to it"""
    made = []

    def more(count):
        made.extend(wire.Connection(*small_farm.router) for _ in range(count))
        return made[-count:]
    yield more
    for connection in made:
        connection.close()


def healthy(connection):
    return connection.ask("GET", "/health").status == 200


def test_clients__above_the_limit_the_longest_idle_one_has_to_go(clients):
    first = clients(CLIENTS - 1)
    assert all(healthy(client) for client in first)
    assert healthy(first[0]), "so the second is the longest idle one"
    assert all(healthy(client) for client in clients(CLIENTS // 2))
    gone = [client.closed(0.05) for client in first]
    assert gone == [False] + [True] * (CLIENTS // 2) + [False] * (CLIENTS // 2 - 2)


def test_clients__at_the_limit_whoever_becomes_idle_makes_room(clients):
    """All are in the middle of a head; those who wait need not wait for the idle timeout."""
    busy = clients(CLIENTS)
    for client in busy:
        client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    late, = clients(1)
    late.request("GET", "/health")
    assert not late.readable(0.1), "there was room"
    busy[0].send(b"\r\n")
    assert busy[0].answer().read().status == 200
    assert late.readable(2) and late.answer().read().status == 200
    assert not busy[1].readable(0.05)


# --- no descriptors left --------------------------------------------------------------------------

def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_seconds(pid):
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_descriptors__none_left(small_farm, clients):
    """Persona ports take clients until there is no descriptor for one more. Those who are there are
    served, the others wait without costing time, and come in when some leave."""
    farm, dialect = small_farm, STREAMS[0]
    pid, port = farm.proxy_pid, farm.port("swarm")
    stream, other = clients(2)
    farm.set("s1", tps=30)
    stream.request("POST", dialect.path, dialect.ask("fast", max_tokens=30))
    answer = stream.answer()
    assert healthy(other)
    crowd = [wire.Connection("127.0.0.1", port) for _ in range(NOFILE)]
    try:
        for client in crowd:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        wait_until(lambda: descriptors(pid) == NOFILE, "no descriptor is left")
        began, spent = time.monotonic(), cpu_seconds(pid)
        assert "s1" in dialect.text(answer.read())
        passed, spent = time.monotonic() - began, cpu_seconds(pid) - spent
        print(f"{spent:.2f} s of CPU time in {passed:.2f} s")
        assert passed > 0.5 and spent < 0.1 * passed, "it spins"
        assert healthy(stream)
        for client in crowd[:NOFILE // 2]:
            client.close()
        crowd[-1].send(b"\r\n")
        assert crowd[-1].answer().read().field("x-simnode") == "s1"
    finally:
        for client in crowd:
            client.close()
    assert healthy(clients(1)[0])


# --- one large body -------------------------------------------------------------------------------

LARGE_MB, SMALL_MB = 60, 15
OTHERS_MS = 50  # p99 of other clients meanwhile, more than before

# A process of its own: what it costs to send is not the router's.
UPLOAD = """
import socket, sys, time
address, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = open(path, "rb").read()
sock = socket.create_connection((address, port))
began = time.monotonic()
sock.sendall(data)
head = sock.recv(65536)
print(time.monotonic() - began, head.split()[1].decode())
"""


def start_upload(farm, folder, size_mb):
    dialect = WHOLES[0]
    document = dialect.ask("rag", max_tokens=1)
    document["image"] = base64.b64encode(os.urandom(size_mb * 3 << 18)).decode()
    path = folder / f"{size_mb}-mb"
    path.write_bytes(wire.head("POST", dialect.path, document))
    assert size_mb << 20 < path.stat().st_size < 64 << 20
    return subprocess.Popen([sys.executable, "-c", UPLOAD, *map(str, farm.router), path],
                            stdout=subprocess.PIPE, text=True)


def others(farm, going_on):
    """Milliseconds of each request of another client, sorted."""
    dialect, spent, connection = WHOLES[0], [], wire.Connection(*farm.router)
    while going_on() or len(spent) < 50:
        began = time.monotonic()
        assert "s1" in dialect.text(connection.ask("POST", dialect.path, dialect.ask("fast")))
        spent.append((time.monotonic() - began) * 1000)
    connection.close()
    return sorted(spent)


@pytest.mark.skipif("asan" in str(BUILD), reason="times under sanitizers say nothing")
def test_large_body__takes_linear_time_and_nobody_else_has_to_wait(farm, tmp_path):
    seconds, meanwhile = {}, []
    with farm.configured(max_body_mb=64, first_byte_timeout_ms=30000):
        before = others(farm, lambda: False)
        for size_mb in (SMALL_MB, LARGE_MB):
            process = start_upload(farm, tmp_path, size_mb)
            meanwhile = others(farm, lambda: process.poll() is None)
            spent, status = process.communicate(timeout=30)[0].split()
            assert status == "200"
            seconds[size_mb] = float(spent)
    p99 = meanwhile[int(len(meanwhile) * 0.99)]
    print(f"seconds by MB {seconds}; others: {len(meanwhile)}, p50 {meanwhile[len(meanwhile) // 2]:.1f} "
          f"ms, p99 {p99:.1f} ms, most {meanwhile[-1]:.1f} ms; before p50 {before[len(before) // 2]:.1f} ms")
    assert seconds[LARGE_MB] < 2 * LARGE_MB / SMALL_MB * seconds[SMALL_MB]
    assert p99 < before[len(before) // 2] + OTHERS_MS

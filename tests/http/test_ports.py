# SPDX-License-Identifier: MIT
"""Persona ports: the same service for HTTP engines, without a name to look up; tunnels for
websockets. Without a datapath all of their connections come through the fallback listener."""

import base64
import contextlib
import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

import wire
from dialect import CASES, STREAMS, WHOLES
from farm import pushed_until_stuck, wait_until
from lab import MODEL, answers
from test_faults import close, hang
from test_hop import framed, framings

pytestmark = pytest.mark.router


@pytest.fixture
def port(farm, connect):
    """port("cruncher") or port("studio", "image"): a connection to it"""
    return lambda persona, service="llm", **options: connect(
        "127.0.0.1", farm.port(persona, service), **options)


@pytest.mark.parametrize("dialect", CASES, ids=str)
def test_port__answers_as_a_node_does(port, dialect):
    answer = port("cruncher").ask("POST", dialect.path, dialect.ask("deepseek-r1:latest"))
    assert answer.field("x-simnode") in ("c1", "c2") and answer.field("x-simnode") in dialect.text(answer)


@pytest.mark.parametrize("dialect", STREAMS, ids=str)
def test_port__not_a_byte_of_the_body_is_changed(lab, port, dialect):
    """The persona is given: no alias, no name to look up, none to replace."""
    lab.play(answers(dialect))
    text = b'{ "model" : "any/thing" ,"messages":[]}'
    answer = port("lab").ask("POST", dialect.path, text)
    assert dialect.text(answer) == "fine" and lab.requests[0].body == text


def test_port__paths_of_the_engine_go_through(port):
    """Also those that the router has not, or forbids, or would answer itself: it is the node's
    port."""
    assert port("cruncher").ask("GET", "/").body == b"Ollama is running"
    tags = port("cruncher").ask("GET", "/api/tags").json()["models"]
    assert {entry["name"] for entry in tags} == {"deepseek-r1:latest", "qwen2.5-coder:latest"}
    assert port("swarm").ask("GET", "/v1/models").status == 200
    assert port("studio", "image").ask("GET", "/system_stats").status == 200
    assert port("lab").ask("POST", "/any/path?x=1", b"\x00\xff").status == 200
    assert port("lab").ask("DELETE", "/api/delete", b"{}").status == 200


def test_port__keys_go_on(lab, port):
    """They are the node's business there."""
    lab.play(answers(WHOLES[0]))
    fields = ["Authorization: Bearer sk-of-the-node", "x-api-key: sk-of-the-node"]
    assert WHOLES[0].text(port("lab").ask("POST", WHOLES[0].path, {"model": "x"}, fields)) == "fine"
    request, = lab.requests
    assert request.field("authorization") == "Bearer sk-of-the-node"
    assert request.field("x-api-key") == "sk-of-the-node"


@pytest.mark.parametrize("size", [1, 1000, 300_000])
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "HEAD"])
@framings
def test_port__methods_with_a_body_go_on(lab, port, method, size, chunked):
    """Framed as it came, and the connection is in step afterwards."""
    lab.play(lambda request: request.answer(204 if method == "HEAD" else 200, b"", "X-Own: yes"))
    text, connection = os.urandom(size), port("lab")
    fields, sent = framed(text, chunked)
    for _ in range(2):
        connection.send(wire.head(method, "/any", None, fields) + sent)
        connection.sent_bodiless.append(method == "HEAD")
        answer = connection.answer().read()
        assert answer.status in (200, 204) and answer.field("x-own") == "yes"
        request = lab.requests[-1]
        assert (request.method, request.body) == (method, text)
        assert (request.field("transfer-encoding") == "chunked") == chunked
        assert request.field("content-length") == (None if chunked else str(size))
    assert len(lab.requests) == 2


def test_port__options_are_the_nodes(lab, port):
    lab.play(lambda request: request.answer(200, b"", "Access-Control-Allow-Origin: *"))
    answer = port("lab").ask("OPTIONS", "/api/chat", None, ["Origin: http://x"])
    assert answer.status == 200 and answer.field("access-control-allow-origin") == "*"
    assert lab.requests[0].method == "OPTIONS" and lab.requests[0].field("origin") == "http://x"


UPLOAD = 8_000_000


@framings
def test_port__an_answer_while_the_upload_still_comes(studio, port, chunked):
    """It goes on at once; what is left of the upload is no node's and no request any more, and that
    connection to the node ends with it."""
    def script(request):
        if request.target == "/upload/image":
            request.answer(413, b'{"error":"too large"}')  # its body is not read
            request.wait_left()
            request.close()
        else:
            request.answer(200, b"{}")

    studio.script = script
    connection = port("studio", "image")
    fields, text = framed(wire.head("GET", "/smuggled") * (UPLOAD // 40), chunked)
    connection.send(wire.head("POST", "/upload/image", None, fields) + text[:1000])
    began, answer = time.monotonic(), connection.answer().read()
    assert (answer.status, answer.body) == (413, b'{"error":"too large"}')
    assert time.monotonic() - began < 1 and answer.field("connection") == "close"
    try:
        connection.send(text[1000:])
    except OSError:
        pass  # it need not be taken
    assert connection.closed(6)
    assert studio.requests[0].left.wait(2), "the node still waits for the rest"
    for _ in range(3):
        assert port("studio", "image").ask("GET", "/prompt").status == 200
    assert port("studio", "image").ask("GET", "/behind").status == 200
    assert [request.target for request in studio.requests] == ["/upload/image", "/behind"]


def test_port__an_answer_before_a_kept_upload_is_complete(studio, port):
    """The client ends its upload all the same; whoever comes next is served, not the rest."""
    studio.script = lambda request: request.answer(200, b"{}")  # never reads a body
    for i in range(4):
        connection, text = port("studio", "image"), b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.send(wire.head("POST", "/upload", None, [f"Content-Length: {2 * len(text)}"]) + text)
        assert connection.answer().read().status == 200
        with contextlib.suppress(OSError):
            connection.send(text)
        answer = port("studio", "image").ask("GET", f"/next{i}")
        assert answer.status == 200
    targets = [request.target for request in studio.requests if request.target != "/smuggled"]
    assert [t for t in targets if t.startswith("/next")] == [f"/next{i}" for i in range(4)]


@pytest.mark.parametrize("dialect", CASES, ids=str)
def test_port__an_inference_is_tried_again(lab, port, dialect):
    lab.play(close(dialect), answers(dialect))
    assert dialect.text(port("lab").ask("POST", dialect.path, dialect.ask(MODEL))) == "fine"
    assert sorted(lab.nodes_of_requests()) == ["x1", "x2"]


def test_port__anything_else_is_not(lab, port):
    lab.play(close(None), answers(WHOLES[0]))
    answer = port("lab").ask("POST", "/api/pull", b'{"model":"x"}')
    assert answer.status == 502 and len(lab.requests) == 1


def test_port__all_full_cascades_then_waits(farm, port):
    dialect = STREAMS[0]
    for node in ("c1", "c2", "h1"):
        farm.set(node, ttft_ms=150)
    connections = [port("cruncher") for _ in range(9)]  # 4 places, 4 of fat-brain, one waits
    for i, connection in enumerate(connections):
        connection.request("POST", dialect.path, dialect.ask("any" if i > 3 else "deepseek-r1"))
    nodes = [connection.answer().read().field("x-simnode") for connection in connections]
    assert nodes.count("h1") >= 4
    assert farm.stats("c1")["max_active"] <= 2 and farm.stats("c2")["max_active"] <= 2


def test_port__a_client_that_leaves_frees_the_node(farm, lab, port):
    dialect = STREAMS[0]
    lab.play(hang(dialect))
    connection = port("lab")
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    request = lab.wait_requests(1)
    left_ns = connection.leave()
    assert request.left.wait(2) and request.left_ns - left_ns < 100e6


def test_port__affinity_keeps_a_client_on_its_node(farm, connect):
    nodes = set()
    for _ in range(4):
        connection = connect("127.0.0.1", farm.port("media-lab", "image"), source="127.0.0.9")
        nodes.add(connection.ask("GET", "/system_stats").field("x-simnode"))
    assert nodes == {"m1"}


# --- websockets -----------------------------------------------------------------------------------

KEY = base64.b64encode(bytes(range(16))).decode()
ACCEPT = base64.b64encode(hashlib.sha1(
    (KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
UPGRADE = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}",
           "Sec-WebSocket-Version: 13"]


TAKEN = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         + f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n".encode())


def echo(request):
    """Takes the upgrade, then sends back what comes."""
    request.send(TAKEN + b"hello")
    while data := request.stream.read1(65536):
        request.send(data)
    request.left.set()
    raise EOFError


@pytest.fixture
def studio(farm):
    node = farm.nodes["y1"]
    node.script = echo
    return node


def upgrade(connection):
    connection.request("GET", "/ws?clientId=7", None, UPGRADE)
    answer = connection.answer(interim=True)
    assert answer.status == 101, answer.read()
    assert answer.field("sec-websocket-accept") == ACCEPT
    assert answer.field("upgrade").lower() == "websocket"
    assert "upgrade" in answer.field("connection").lower()
    return connection


def receive(connection, size):
    while len(connection.rest) < size:
        assert connection.fill(), f"the tunnel ended after {len(connection.rest)} bytes"
    data, connection.rest = connection.rest[:size], connection.rest[size:]
    return data


def test_tunnel__bytes_go_both_ways(studio, port):
    connection = upgrade(port("studio", "image"))
    assert receive(connection, 5) == b"hello"
    for size in (1, 1000, 70000):
        data = os.urandom(size)
        connection.send(data)
        assert receive(connection, size) == data
    request = studio.requests[0]
    assert request.target == "/ws?clientId=7" and request.field("upgrade") == "websocket"
    assert request.field("sec-websocket-key") == KEY


def test_tunnel__a_megabyte_while_nobody_reads(studio, port):
    """Back-pressure both ways, then all of it, in order."""
    connection = upgrade(port("studio", "image"))
    assert receive(connection, 5) == b"hello"
    data = os.urandom(4_000_000)
    sender = threading.Thread(target=connection.send, args=(data,))
    sender.start()
    assert hashlib.sha256(receive(connection, len(data))).digest() == hashlib.sha256(data).digest()
    sender.join()


def test_tunnel__bytes_sent_behind_the_request_are_not_lost(studio, port):
    connection = port("studio", "image")
    connection.send(wire.head("GET", "/ws", None, UPGRADE) + b"early")
    connection.sent_bodiless.append(False)
    assert connection.answer(interim=True).status == 101
    assert receive(connection, 10) == b"helloearly"


def test_tunnel__many_bytes_behind_the_request_do_not_stop_it(studio, port):
    """More than are kept while the node thinks about the upgrade."""
    taken = threading.Event()

    def late(request):
        taken.wait(5)
        echo(request)

    studio.script = late
    connection, data = port("studio", "image"), os.urandom(400_000)
    head = wire.head("GET", "/ws", None, UPGRADE)
    sender = threading.Thread(target=connection.send, args=(head + data,))
    sender.start()
    wait_until(lambda: studio.requests, "the node is asked")
    wait_until(lambda: connection.unread(), "the proxy has stopped reading")
    taken.set()
    assert connection.answer(interim=True).status == 101
    assert receive(connection, 5 + len(data)) == b"hello" + data
    sender.join()


def test_tunnel__the_node_ends_while_the_client_has_not_taken_all(farm, studio, connect):
    """What the kernel takes of it, and a little more, so that some waits in the proxy."""
    def ends(size):
        def script(request):
            request.send(TAKEN + b"x" * size)
            request.sock.shutdown(socket.SHUT_WR)
            request.wait_left(1)
            raise EOFError
        return script

    def push(size):
        studio.script, seen = ends(size), len(studio.requests)
        connection = connect("127.0.0.1", farm.port("studio", "image"), receive_buffer=4096, segment=536)
        connection.request("GET", "/ws", None, UPGRADE)
        wait_until(lambda: len(studio.requests) > seen, "the node is asked", 5, 0.002)
        gone = studio.requests[seen].left.wait(0.4)
        connection.sock.shutdown(socket.SHUT_WR)
        if gone and size % 3:
            connection.answer(interim=True)
            assert receive(connection, size) == b"x" * size
        connection.close()
        assert connect("127.0.0.1", farm.port("studio", "image")).ask("GET", "/prompt").status == 200
        return gone
    pid = farm.proxy_pid
    pushed_until_stuck(push)
    assert farm._find_proxy() == pid, "the proxy has died"


@pytest.mark.parametrize("side", ["client", "node"])
def test_tunnel__when_one_side_ends_so_does_the_other(farm, studio, port, side):
    connection = upgrade(port("studio", "image"))
    assert receive(connection, 5) == b"hello"
    farm.wait_for(lambda: farm.busy("y1") >= 0, "counted")
    if side == "client":
        connection.close()
        assert studio.requests[0].left.wait(2)
    else:
        studio.stop()
        assert connection.closed()


def test_tunnel__a_node_that_says_no(farm, studio, port):
    studio.script = lambda request: request.answer(403, b"{}")
    connection = port("studio", "image")
    answer = connection.ask("GET", "/ws", None, UPGRADE)
    assert (answer.status, answer.body) == (403, b"{}")
    assert connection.ask("GET", "/prompt").status == 200  # still HTTP


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0"])
def test_tunnel__other_protocols_are_not_upgraded_to(lab, port, protocol):
    lab.play(answers(WHOLES[0]))
    fields = [f"Upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAA"]
    answer = port("lab").ask("POST", WHOLES[0].path, WHOLES[0].ask(MODEL), fields)
    assert WHOLES[0].text(answer) == "fine"
    assert lab.requests[0].field("upgrade") is None


def test_tunnel__the_simulated_comfyui_takes_one(farm, port):
    connection = port("media-lab", "image")
    connection.request("GET", "/ws?clientId=1", None, UPGRADE)
    answer = connection.answer(interim=True)
    assert answer.status == 101 and answer.field("sec-websocket-accept") == ACCEPT
    assert "sid" in receive_text(connection)


def receive_text(connection):
    """A short text frame of a websocket (RFC 6455 5.2)."""
    first, size = receive(connection, 2)
    assert first == 0x81
    if size == 126:
        size = int.from_bytes(receive(connection, 2), "big")
    return receive(connection, size).decode()

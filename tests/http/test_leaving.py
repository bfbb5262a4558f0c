# SPDX-License-Identifier: MIT
"""Clients that leave, at each moment of a request's life: its place and its upstream are free within
100 ms (contract §5)."""

import time

import pytest

import wire
from dialect import CASES, STREAMS, WHOLES
from farm import wait_until
from lab import MODEL, answers, held
from test_faults import PLACES, begun, cases, hang

pytestmark = pytest.mark.router
LEAVE_NS = 100e6


def leave(connection, how):
    return connection.reset() if how == "reset" else connection.leave()


def wait_noticed(farm, request, left_ns):
    """The node sees it, the gateway's books too."""
    assert request.left.wait(3), "the node was never told"
    assert request.left_ns - left_ns < LEAVE_NS, f"{(request.left_ns - left_ns) / 1e6:.1f} ms"
    wait_until(lambda: farm.busy(request.node.name) == 0, "its slot is free", 1, 0.005)


ways = pytest.mark.parametrize("how", ["close", "reset"])


@ways
@cases(CASES)
def test_leave__before_the_body_is_complete(lab, connect, dialect, how):
    lab.play(answers(dialect))
    whole = wire.head("POST", dialect.path, dialect.ask(MODEL, "x" * 100000))
    connection = connect()
    connection.send(whole[:50000])
    leave(connection, how)
    # whatever the router had begun for it is over when another's request has been served
    assert dialect.text(connect().ask("POST", dialect.path, dialect.ask(MODEL))) == "fine"
    complete = [r for r in lab.requests if r.body and len(r.body) > 50000]
    assert not complete


@ways
@cases(CASES)
def test_leave__before_the_head_of_the_answer(lab, connect, farm, dialect, how):
    """While the node thinks: of a stream the time to the first token, else the whole answer."""
    lab.play(hang(dialect))
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    request = lab.wait_requests(1)
    wait_noticed(farm, request, leave(connection, how))
    assert len(lab.requests) == 1, "asked another node for nobody"


@ways
@cases(STREAMS)
def test_leave__before_the_first_token(lab, connect, farm, dialect, how):
    lab.play(begun(dialect))
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    request = lab.wait_requests(1)
    wait_noticed(farm, request, leave(connection, how))
    assert len(lab.requests) == 1


@ways
@cases(STREAMS)
def test_leave__in_mid_stream(lab, connect, farm, dialect, how):
    lab.play(begun(dialect, dialect.piece("one"), dialect.piece("two")))
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    connection.answer().until(dialect.piece("two"))
    wait_noticed(farm, lab.wait_requests(1), leave(connection, how))
    assert len(lab.requests) == 1


@ways
@cases(WHOLES)
def test_leave__in_a_whole_answer(lab, connect, farm, dialect, how):
    def script(request):
        request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                     b"Content-Length: 1000\r\n\r\n{")
        request.wait_left()

    lab.play(script)
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    wait_noticed(farm, lab.wait_requests(1), leave(connection, how))
    assert len(lab.requests) == 1


@ways
@cases(CASES)
def test_leave__while_waiting_in_the_queue(lab, connect, farm, dialect, how):
    lab.play(held(lab, dialect))
    holders = [connect() for _ in range(PLACES)]
    for holder in holders:
        holder.request("POST", dialect.path, dialect.ask(MODEL))
    lab.wait_requests(PLACES)
    waiting = connect()
    waiting.request("POST", dialect.path, dialect.ask(MODEL, "I leave"))
    wait_until(lambda: farm.metric("megalith_http_queue_length") == 1, "it waits", 2, 0.005)
    left_ns = leave(waiting, how)
    wait_until(lambda: farm.metric("megalith_http_queue_length") == 0, "its place is free", 2, 0.001)
    assert time.monotonic_ns() - left_ns < LEAVE_NS
    lab.go.set()
    for holder in holders:
        assert dialect.text(holder.answer().read()) == "fine"
    assert len(lab.requests) == PLACES, "the one that left was served"


def test_leave__many_at_once(lab, connect, farm):
    """No slot is lost however they leave."""
    dialect = STREAMS[0]
    lab.play(begun(dialect, dialect.piece("one")))
    for _ in range(5):
        connections = [connect() for _ in range(PLACES)]
        for connection in connections:
            connection.request("POST", dialect.path, dialect.ask(MODEL))
        for connection in connections:
            connection.answer().until(dialect.piece("one"))
        for i, connection in enumerate(connections):
            leave(connection, "reset" if i % 2 else "close")
        wait_until(lambda: not farm.busy("x1") and not farm.busy("x2"), "all slots free", 2, 0.002)
    assert len(lab.requests) == 5 * PLACES

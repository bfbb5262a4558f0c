# SPDX-License-Identifier: MIT
"""All full: who waits, for how long, in which order, and what is said in the end."""

import threading
import time

import pytest

from dialect import CASES, WHOLES
from farm import QUEUE_LENGTH, QUEUE_MS
from lab import MODEL, answers, held
from test_faults import PLACES, cases

pytestmark = pytest.mark.router


@pytest.fixture
def full(lab, connect):
    """full(dialect): every place of the lab is taken, until lab.go is set."""
    holders = []

    def fill(dialect, script=None):
        lab.play(script or held(lab, dialect))
        for i in range(PLACES):
            holders.append(connect())
            holders[-1].request("POST", dialect.path, dialect.ask(MODEL))
            lab.wait_requests(i + 1)
        return holders
    yield fill
    lab.go.set()


def queue_up(farm, connect, dialect, count):
    """So many clients that wait; they have come in this order."""
    waiting = []
    for i in range(count):
        waiting.append(connect())
        waiting[-1].request("POST", dialect.path, dialect.ask(MODEL, f"waiting {i}"))
        farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == i + 1, f"{i + 1} wait")
    return waiting


@cases(CASES)
def test_queue__a_place_that_comes_free_is_given_to_who_waits(lab, full, farm, connect, dialect):
    holders = full(dialect)
    waiting, = queue_up(farm, connect, dialect, 1)
    assert not waiting.readable(0.05), "something was sent early"
    lab.go.set()
    answer = waiting.answer().read()
    assert dialect.text(answer) == "fine"
    assert answer.field("x-megalith-attempts") == "1"
    for holder in holders:
        assert dialect.text(holder.answer().read()) == "fine"
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 0, "nobody waits")


def test_queue__first_come_first_served(lab, full, farm, connect):
    """One place comes free, and is given from hand to hand."""
    dialect = CASES[0]

    def script(request):
        if b"waiting" in request.body or request is lab.requests[0]:
            assert first.wait(10)
        else:
            assert lab.go.wait(10)
        answers(dialect)(request)

    first = threading.Event()
    full(dialect, script)
    waiting = queue_up(farm, connect, dialect, QUEUE_LENGTH)
    first.set()
    for connection in waiting:
        assert dialect.text(connection.answer().read()) == "fine"
    order = [r.document()["messages"][0]["content"] for r in lab.requests[PLACES:]]
    assert order == [f"waiting {i}" for i in range(QUEUE_LENGTH)]


@cases(CASES)
def test_queue__the_deadline_is_told_with_retry_after(lab, full, farm, connect, dialect):
    full(dialect)
    began = time.monotonic()
    answer = connect().ask("POST", dialect.path, dialect.ask(MODEL))
    spent = (time.monotonic() - began) * 1000
    assert answer.status == 503 and answer.end == "length", answer
    assert dialect.error_of(answer.json())
    assert 1 <= int(answer.field("retry-after")) <= 60
    assert QUEUE_MS * 0.95 <= spent <= QUEUE_MS + 300, spent


def test_queue__one_too_many_is_refused_at_once(lab, full, farm, connect):
    dialect = WHOLES[0]
    full(dialect)
    queue_up(farm, connect, dialect, QUEUE_LENGTH)
    began = time.monotonic()
    answer = connect().ask("POST", dialect.path, dialect.ask(MODEL))
    assert answer.status == 503 and answer.field("retry-after")
    assert time.monotonic() - began < QUEUE_MS / 1000 / 2


def test_queue__other_aliases_do_not_wait(lab, full, farm, connect):
    dialect = WHOLES[0]
    full(dialect)
    queue_up(farm, connect, dialect, 2)
    began = time.monotonic()
    assert "s1" in dialect.text(connect().ask("POST", dialect.path, dialect.ask("fast")))
    assert time.monotonic() - began < 0.5


def test_queue__who_leaves_gives_the_place_to_the_next(lab, full, farm, connect):
    dialect = WHOLES[0]
    full(dialect)
    waiting = queue_up(farm, connect, dialect, QUEUE_LENGTH)
    waiting[0].leave()
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == QUEUE_LENGTH - 1, "one left")
    late = connect()  # fits again
    late.request("POST", dialect.path, dialect.ask(MODEL, "late"))
    lab.go.set()
    for connection in [*waiting[1:], late]:
        assert dialect.text(connection.answer().read()) == "fine"
    assert not any(b"waiting 0" in request.body for request in lab.requests)


def test_queue__a_client_that_leaves_its_node_gives_its_place(lab, full, farm, connect):
    dialect = WHOLES[0]
    holders = full(dialect)
    waiting, = queue_up(farm, connect, dialect, 1)
    began = time.monotonic()
    holders[0].leave()
    lab.wait_requests(PLACES + 1)
    assert time.monotonic() - began < 0.3
    lab.go.set()
    assert dialect.text(waiting.answer().read()) == "fine"


def test_queue__a_node_that_comes_back_takes_who_waits(lab, full, farm, connect):
    dialect = WHOLES[0]
    lab.nodes[0].stop()
    farm.wait_down("x1")
    lab.play(held(lab, dialect))
    holders = [connect() for _ in range(PLACES // 2)]
    for i, holder in enumerate(holders):
        holder.request("POST", dialect.path, dialect.ask(MODEL))
        lab.wait_requests(i + 1)
    waiting, = queue_up(farm, connect, dialect, 1)
    lab.nodes[0].start()
    assert lab.wait_requests(PLACES // 2 + 1).node.name == "x1"
    lab.go.set()
    assert dialect.text(waiting.answer().read()) == "fine"


def test_queue__nobody_up_is_said_at_once(lab, farm, connect):
    dialect = WHOLES[0]
    for node in lab.nodes:
        node.stop()
        farm.wait_down(node.name)
    began = time.monotonic()
    answer = connect().ask("POST", dialect.path, dialect.ask(MODEL))
    assert answer.status == 503 and dialect.error_of(answer.json())
    assert time.monotonic() - began < QUEUE_MS / 1000 / 2

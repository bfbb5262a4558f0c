# SPDX-License-Identifier: MIT
"""Who is too slow: clients with their head, clients with nothing to ask, nodes that fall silent. A
farm of its own, with deadlines that a test can wait for. What takes ten seconds and more (slow
bodies, readers that have stopped) is in tests/unit/test_router_deadlines.c."""

import copy
import json
import time

import pytest

import wire
from dialect import STREAMS, WHOLES
from farm import ALIASES, DIRECT, NODES, Farm, missing, wait_until
from lab import MODEL, answers
from test_faults import begun, hang

pytestmark = pytest.mark.router

HEAD_MS, IDLE_MS, TICK_MS = 400, 900, 50
SLACK_MS = 250  # of a busy machine
SILENT_MS, SECOND_MS = 3000, 1000  # ROUTER_SILENT_MS, and how often it is looked at
PLACES = 4
CHAT, WHOLE = WHOLES[0].path, WHOLES[0]


@pytest.fixture(scope="module")
def whole_farm():
    """Takes the place of everybody's farm in this file."""
    if DIRECT or missing():
        pytest.skip("no router here")
    nodes = {name: copy.deepcopy(NODES[name]) for name in ("x1", "x2")}
    for node in nodes.values():
        node["services"]["llm"]["capacity"] = PLACES
    with Farm(nodes=nodes, personas={"lab": {"nodes": ["x1", "x2"], "listen": ["llm"]}},
              aliases={"mine": [{"persona": "lab", "model": MODEL}]},
              router={"head_timeout_ms": HEAD_MS, "idle_timeout_ms": IDLE_MS,
                      "first_byte_timeout_ms": 30000, "head_max_kb": 2,
                      "head_fields_max": 20}) as made:
        yield made


def closed_for(farm, reason):
    return farm.metric("megalith_http_closed_total", reason=reason)


def after(began):
    return (time.monotonic() - began) * 1000


def in_time(ms, deadline_ms):
    return deadline_ms - TICK_MS / 2 <= ms <= deadline_ms + 2 * TICK_MS + SLACK_MS


# --- heads ----------------------------------------------------------------------------------------

@pytest.fixture(params=["router", "persona port"])
def client(farm, connect, request):
    """client(): a connection that has just been made"""
    if request.param == "router":
        return connect
    return lambda: connect("127.0.0.1", farm.port("lab"))


def test_head__that_is_late_is_408(farm, client):
    before, connection, began = closed_for(farm, "slow_head"), client(), time.monotonic()
    connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    answer = connection.answer().read()
    spent = after(began)
    assert (answer.status, answer.body) == (408, b""), answer
    assert in_time(spent, HEAD_MS), f"{spent:.0f} ms"
    assert (answer.field("connection") or "").lower() == "close" and connection.closed()
    assert closed_for(farm, "slow_head") == before + 1


def test_head__that_drips_is_408_all_the_same(farm, connect):
    """The time is counted from its first byte, whatever comes meanwhile."""
    connection, began = connect(), time.monotonic()
    while not connection.readable(0.05):
        connection.send(b"X")
        assert after(began) < 5 * HEAD_MS, "each byte buys more time"
    assert connection.answer().read().status == 408
    assert in_time(after(began), HEAD_MS)


def test_head__without_any_byte_is_closed_without_words(farm, client):
    before, connection, began = closed_for(farm, "slow_head"), client(), time.monotonic()
    assert connection.closed(5), connection.rest
    assert in_time(after(began), HEAD_MS) and closed_for(farm, "slow_head") == before + 1


def test_head__on_a_kept_connection_has_its_time_from_its_first_byte(farm, connect):
    connection = connect()
    assert connection.ask("GET", "/health").status == 200
    assert not connection.readable(HEAD_MS / 1000 * 1.2), "the head's deadline, and no head begun"
    began = time.monotonic()
    connection.send(b"GET /health")
    answer = connection.answer().read()
    assert answer.status == 408 and in_time(after(began), HEAD_MS)


def test_head__that_is_slow_but_in_time_is_served(farm, connect):
    connection = connect()
    for piece in (b"GET /hea", b"lth HTTP/1.1\r", b"\nHost: x\r\n", b"\r\n"):
        assert not connection.readable(HEAD_MS / 1000 / 8)
        connection.send(piece)
    assert connection.answer().read().status == 200


# --- nothing to ask -------------------------------------------------------------------------------

def test_idle__is_closed_without_words(farm, client):
    before, connection = closed_for(farm, "slow_head"), client()
    for _ in range(2):  # each answer begins the time anew
        assert connection.ask("GET", "/api/version").status == 200
        began = time.monotonic()
        assert not connection.readable(IDLE_MS / 1000 * 0.6)
    assert connection.closed(5)
    assert in_time(after(began), IDLE_MS) and closed_for(farm, "slow_head") == before


def test_idle__is_not_who_waits_for_an_answer(farm, lab, connect):
    """Neither of the two deadlines is for the time that a node takes."""
    dialect = WHOLE

    def late(request):
        assert lab.go.wait(10)
        answers(dialect)(request)

    lab.play(late)
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    assert not connection.readable((IDLE_MS + 2 * TICK_MS) / 1000)
    lab.go.set()
    assert dialect.text(connection.answer().read()) == "fine"


# --- a head of a node -----------------------------------------------------------------------------

BIG = {"bytes": ["X-Big: " + "x" * 3000], "fields": [f"X-{i}: 1" for i in range(30)]}


@pytest.mark.parametrize("what", BIG)
def test_head__of_a_node_has_the_same_limits(lab, connect, what):
    """Another node is asked; when all do the same, 502."""
    big = lambda request: request.answer(200, WHOLE.whole("too much"), *BIG[what])
    lab.play(big, answers(WHOLE))
    answer = connect().ask("POST", CHAT, WHOLE.ask(MODEL))
    assert WHOLE.text(answer) == "fine" and answer.field("x-megalith-attempts") == "2"
    lab.requests.clear()
    lab.play(big)
    answer = connect().ask("POST", CHAT, WHOLE.ask(MODEL))
    assert answer.status == 502 and WHOLE.error_of(answer.json()), answer
    assert sorted(set(lab.nodes_of_requests())) == ["x1", "x2"]


def test_head__of_a_node_below_the_limits_goes_on(lab, connect):
    lab.play(lambda request: request.answer(200, WHOLE.whole("fine"), "X-Big: " + "x" * 1500,
                                            *[f"X-{i}: 1" for i in range(15)]))
    answer = connect().ask("POST", CHAT, WHOLE.ask(MODEL))
    assert WHOLE.text(answer) == "fine" and len(answer.field("x-big")) == 1500


# --- nodes that fall silent -----------------------------------------------------------------------

def silent_in_a_whole_answer(request):
    request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                 b"Content-Length: 1000\r\n\r\n{")
    request.wait_left()


def broken_off(dialect, answer, said):
    """The last event is an error in the dialect's shape, and the end is no good one."""
    assert answer.status == 200 and answer.end in ("cut", "reset") and answer.body.startswith(said)
    event = answer.body[len(said):].strip()
    assert dialect.error_of(json.loads(event.removeprefix(b"data: "))), answer


def test_silent__node_whose_probes_fail_loses_its_requests_after_3_s(farm, lab, connect):
    """Streams are cut, who has seen nothing yet goes elsewhere; a node that is as silent but answers
    its probes is left in peace."""
    mute, well = lab.nodes
    well.stop()
    farm.wait_down("x2")
    streams = []
    for dialect in STREAMS:
        mute.script = well.script = begun(dialect, dialect.piece("one"))
        connection = connect()
        connection.request("POST", dialect.path, dialect.ask(MODEL))
        streams.append((dialect, connection.answer().until(dialect.piece("one"))))
    mute.script = silent_in_a_whole_answer
    short = connect()
    short.request("POST", CHAT, WHOLE.ask(MODEL))
    short_answer = short.answer()
    assert short_answer.piece() == b"{"
    mute.script = hang(WHOLE)
    early = connect()
    early.request("POST", CHAT, WHOLE.ask(MODEL))
    wait_until(lambda: len(mute.requests) == PLACES, "all are at the mute node")

    well.script, dialect = begun(STREAMS[0], STREAMS[0].piece("two")), STREAMS[0]
    well.start()
    wait_until(farm.healthy, "the other node is back", 5, 0.01)
    patient = connect()
    patient.request("POST", dialect.path, dialect.ask(MODEL))
    waiting = patient.answer().until(dialect.piece("two"))
    assert waiting.field("x-megalith-node") == "x2"
    well.script, mute.deaf, began = answers(WHOLE), True, time.monotonic()

    answer = early.answer().read()
    spent = after(began)
    assert WHOLE.text(answer) == "fine" and answer.field("x-megalith-node") == "x2"
    assert answer.field("x-megalith-attempts") == "2"
    for dialect, answer in streams:
        broken_off(dialect, answer.read(), dialect.piece("one"))
    assert short_answer.read().end in ("cut", "reset") and short_answer.body == b"{"
    assert spent > SILENT_MS / 2, f"cut after {spent:.0f} ms only"  # it was silent before that too
    assert after(began) < SILENT_MS + SECOND_MS + TICK_MS + SLACK_MS, f"{after(began):.0f} ms"
    assert all(request.left.wait(1) for request in mute.requests), "the mute node was not told"
    assert not patient.readable(0.05), "a node that answers its probes may be silent"

# SPDX-License-Identifier: MIT
"""Nodes that fail: what the client sees, what the nodes see, in both dialects, streamed or whole.

Contract §5: before the first byte to the client another node is tried, after it an error in the
dialect's shape and an unclean end. Never two nodes at work for one request (the fixture `lab` looks
at that in every test), never a clean wrong end, and all slots are back afterwards (fixture `farm`).
"""

import json
import time

import pytest

from dialect import CASES, STREAMS, WHOLES
from farm import FIRST_BYTE_MS, wait_until
from lab import MODEL, answers, held

pytestmark = pytest.mark.router
PLACES = 4  # of both nodes together


def cases(which):
    return pytest.mark.parametrize("dialect", which, ids=str)


def ask(connect, dialect, model=MODEL, **more):
    return connect().ask("POST", dialect.path, dialect.ask(model, **more))


# --- before the first byte ------------------------------------------------------------------------

def refuse_status(code):
    def make(dialect):
        return lambda request: request.answer(code, dialect.failure(f"simulated {code}"))
    return make


def close(dialect):
    return lambda request: request.close()


def reset(dialect):
    return lambda request: request.reset()


def hang(dialect):
    return lambda request: request.wait_left()


def begun(dialect, *chunks, then=None):
    """Head and chunks, and then nothing more, or the end."""
    def script(request):
        request.begin(dialect.kind)
        for chunk in chunks:
            request.chunk(chunk)
        if then:
            then(request)
        else:
            request.wait_left()
    return script


def hang_after_head(dialect):
    return begun(dialect)


def close_after_head(dialect):
    return begun(dialect, then=lambda request: request.close())


def end_after_head(dialect):
    """A stream without an event, cleanly ended."""
    return begun(dialect, then=lambda request: request.end())


def error_first(dialect):
    """As SGLang says that its queue is full: 200, then an error."""
    return begun(dialect, dialect.failure_event("The request queue is full."),
                 then=lambda request: request.end())


def close_in_first_event(dialect):
    return begun(dialect, dialect.piece("half")[:20], then=lambda request: request.close())


def comment_then_close(dialect):
    return begun(dialect, b": ping\n\n", then=lambda request: request.close())


def comment_then_hang(dialect):
    return begun(dialect, b": ping\n\n")


def garbage(dialect):
    def script(request):
        request.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        request.close()
    return script


def head_cut(dialect):
    def script(request):
        request.send(b"HTTP/1.1 200 OK\r\nContent-Type: applica")
        request.close()
    return script


BEFORE = {"status 429": refuse_status(429), "status 502": refuse_status(502),
          "status 503": refuse_status(503), "status 504": refuse_status(504), "close": close,
          "reset": reset, "hang": hang, "garbage": garbage, "head cut": head_cut}
BEFORE_STREAM = {"hang after head": hang_after_head, "close after head": close_after_head,
                 "end after head": end_after_head, "error first": error_first,
                 "close in first event": close_in_first_event}
BEFORE_SSE = {"comment, close": comment_then_close, "comment, hang": comment_then_hang}

ROWS = [(name, fault, dialect) for dialect in CASES for name, fault in (
    BEFORE | (BEFORE_STREAM if dialect.stream else {})
    | (BEFORE_SSE if dialect.stream and dialect.openai else {})).items()]


def row_ids(rows):
    return [f"{name}-{dialect}".replace(" ", "_") for name, _, dialect in rows]


@pytest.mark.parametrize("name,fault,dialect", ROWS, ids=row_ids(ROWS))
def test_fault__before_the_first_byte_another_node_answers(lab, connect, name, fault, dialect):
    lab.play(fault(dialect), answers(dialect, "fine words"))
    answer = ask(connect, dialect)
    assert dialect.text(answer) in ("fine words", "finewords")
    assert answer.field("content-type").split(";")[0] == dialect.kind
    assert answer.field("x-megalith-attempts") == "2"
    assert answer.field("x-megalith-node") == lab.requests[1].node.name
    assert sorted(lab.nodes_of_requests()) == ["x1", "x2"]  # once each, never twice the same
    assert lab.requests[0].body == lab.requests[1].body


@cases(CASES)
def test_fault__a_refused_connect_goes_to_another_node(lab, connect, dialect):
    lab.play(held(lab, dialect), answers(dialect))
    holder = connect()
    holder.request("POST", dialect.path, dialect.ask(MODEL))
    there = lab.wait_requests(1).node
    lab.other(there).stop()  # less loaded, so it is the first choice
    answer = ask(connect, dialect)
    assert dialect.text(answer) == "fine"
    assert answer.field("x-megalith-node") == there.name
    assert answer.field("x-megalith-attempts") in ("2", "1")  # 1: a probe was quicker
    lab.go.set()
    assert dialect.text(holder.answer().read()) == "fine"


def test_fault__a_node_that_refused_is_not_asked_again_at_once(lab, connect):
    dialect = WHOLES[0]
    lab.play(answers(dialect)).nodes[0].stop()
    attempts = [int(ask(connect, dialect).field("x-megalith-attempts")) for _ in range(6)]
    assert sum(attempts) <= 7, attempts


def test_fault__a_persona_that_fails_cascades_to_the_next(farm, connect):
    """cruncher's nodes fail, fat-brain answers, under its own model's name."""
    dialect = WHOLES[0]
    for node in ("c1", "c2"):
        farm.set(node, status=503)
    answer = ask(connect, dialect, "reasoning")
    assert "h1" in dialect.text(answer)
    assert [answer.field("x-megalith-" + name) for name in ("node", "persona", "model", "attempts")] \
        == ["h1", "fat-brain", "llama3:70b", "3"]


# Statuses that are the client's own affair, or the model's: no other node would say otherwise.
@cases(CASES)
@pytest.mark.parametrize("code", [400, 403, 409, 413, 422, 500, 501])
def test_fault__other_statuses_go_to_the_client_as_they_are(lab, connect, code, dialect):
    body = dialect.failure("as the node says")
    lab.play(lambda request: request.answer(code, body))
    answer = ask(connect, dialect)
    assert (answer.status, answer.body, answer.end) == (code, body, "length")
    assert len(lab.requests) == 1 and answer.field("x-megalith-attempts") == "1"


LAST_WORD = {"status 429": (429,), "status 503": (503,), "status 502": (502, 503),
             "status 504": (502, 503, 504), "close": (502,), "reset": (502,), "hang": (504,),
             "garbage": (502,)}


@cases(CASES)
@pytest.mark.parametrize("name", LAST_WORD)
def test_fault__all_nodes_fail_and_the_client_is_told_once(lab, connect, name, dialect):
    lab.play(BEFORE[name](dialect))
    began = time.monotonic()
    answer = ask(connect, dialect)
    spent = time.monotonic() - began
    assert answer.status in LAST_WORD[name] and answer.end == "length", answer
    assert dialect.error_of(answer.json())
    assert answer.field("content-type").split(";")[0] == "application/json"
    assert sorted(lab.nodes_of_requests()) == ["x1", "x2"]
    if name == "hang":
        assert 2 * FIRST_BYTE_MS / 1000 * 0.95 < spent < 2 * FIRST_BYTE_MS / 1000 + 1


@cases(CASES)
def test_fault__all_nodes_refuse(lab, connect, dialect):
    for node in lab.nodes:
        node.stop()
    answer = ask(connect, dialect)
    assert answer.status in (502, 503), answer
    assert dialect.error_of(answer.json()) and answer.end == "length"


@cases(CASES)
@pytest.mark.parametrize("name", ["close", "reset"])
def test_fault__a_kept_connection_that_ends_is_tried_anew(lab, connect, name, dialect):
    """The node may have closed it before it saw the request: once more, at the same node or at
    another."""
    lab.play(answers(dialect), answers(dialect), BEFORE[name](dialect), answers(dialect))
    connection = connect()
    for _ in range(4):
        assert dialect.text(connection.ask("POST", dialect.path, dialect.ask(MODEL))) == "fine"
    assert len(lab.requests) == 5


def test_fault__what_is_no_inference_is_not_sent_twice(lab, connect):
    """/api/show has been written to the node: its failure is the client's to know."""
    lab.play(close(None), lambda request: request.answer(200, b"{}"))
    answer = connect().ask("POST", "/api/show", {"model": MODEL})
    assert len(lab.requests) <= 1
    assert answer.status in (200, 502)  # 200: the router knows it by itself


# --- after the first byte -------------------------------------------------------------------------

def later_close(request, dialect):
    request.close()


def later_reset(request, dialect):
    request.reset()


def later_truncated_chunk(request, dialect):
    request.send(b"40\r\n" + dialect.piece("lost")[:20])
    request.close()


def later_bad_chunk(request, dialect):
    request.send(b"xyz\r\n")
    request.wait_left()


def later_clean_end(request, dialect):
    """What Ollama's /v1 does when its runner dies: no [DONE], nothing."""
    request.end()


def later_half_an_event(request, dialect):
    request.chunk(dialect.piece("lost")[:-12])
    request.close()


LATER = {"close": later_close, "reset": later_reset, "truncated chunk": later_truncated_chunk,
         "bad chunk": later_bad_chunk, "clean end without the last": later_clean_end}


@cases(STREAMS)
@pytest.mark.parametrize("name", LATER)
def test_fault__after_the_first_byte_an_error_and_an_unclean_end(lab, connect, name, dialect):
    pieces = [dialect.piece(word) for word in ("one", "two", "three")]

    def script(request):
        request.begin(dialect.kind)
        for piece in pieces:
            request.chunk(piece)
        assert lab.go.wait(5)  # the client has them
        LATER[name](request, dialect)

    lab.play(script, answers(dialect))
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    answer = connection.answer().until(pieces[-1])
    lab.go.set()
    answer.read()
    assert answer.status == 200
    assert answer.end in ("cut", "reset"), "a clean end"
    assert answer.body.startswith(b"".join(pieces))
    assert not answer.body[len(b"".join(pieces)):].startswith(dialect.last())
    # whatever was left of a broken event, the error behind it stands on its own
    separator = b"\n\n" if dialect.openai else b"\n"
    errors = answer.body.split(separator)[len(pieces):]
    assert errors[-1] == b"" and dialect.error_of(json.loads(errors[-2].removeprefix(b"data: ")))
    assert b"[DONE]" not in answer.body and b'"done":true' not in answer.body.replace(b" ", b"")
    assert len(lab.requests) == 1, "another node was asked"


@cases(STREAMS)
def test_fault__an_error_event_later_is_passed_on_and_the_end_is_no_good_one(lab, connect, dialect):
    pieces = dialect.piece("one") + dialect.piece("two")
    event = dialect.failure_event("the runner died")

    def script(request):
        request.begin(dialect.kind)
        request.chunk(pieces)
        request.chunk(event)
        request.end()

    lab.play(script)
    answer = ask(connect, dialect)
    found, _ = dialect.documents(answer.body)
    assert answer.body.startswith(pieces + event)
    assert sum(bool(dialect.error_of(d)) for d in found if isinstance(d, dict)) == 1
    assert not any(dialect.is_last(d) for d in found) and len(lab.requests) == 1


def cut_after(sent, framing):
    def script(request):
        request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + framing + b"\r\n\r\n"
                     + sent)
        request.close()
    return script


@cases(WHOLES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_fault__a_whole_answer_that_is_cut_never_ends_clean(lab, connect, framing, dialect):
    """Either another node's answer from the start, or an error, or a short end: no half answer that
    looks complete, no bytes of two."""
    body = dialect.whole("a long answer")
    if framing == "length":
        script = cut_after(body[:20], b"Content-Length: %d" % len(body))
    else:
        script = cut_after(b"%x\r\n%s\r\n" % (20, body[:20]), b"Transfer-Encoding: chunked")
    lab.play(script, answers(dialect, "other"))
    answer = ask(connect, dialect)
    if answer.status == 200 and answer.complete:
        assert dialect.text(answer) == "other" and len(lab.requests) == 2
    elif answer.status == 200:
        assert answer.body == body[:20] and len(lab.requests) == 1
    else:
        assert answer.status == 502 and dialect.error_of(answer.json())


@cases(STREAMS)
def test_fault__a_node_that_died_in_a_stream_is_avoided_at_once(lab, connect, dialect):
    def script(request):
        request.begin(dialect.kind)
        request.chunk(dialect.piece("one"))
        request.node.stop()
        request.reset()

    lab.play(script, answers(dialect))
    assert ask(connect, dialect).end in ("cut", "reset")
    dead = lab.requests[0].node
    later = [ask(connect, dialect) for _ in range(4)]
    assert {a.field("x-megalith-node") for a in later} == {lab.other(dead).name}
    # a refused connect may come before the controller's word
    assert sum(int(a.field("x-megalith-attempts")) for a in later) <= 5


# --- readers that are slow, nodes that are quick --------------------------------------------------

def stalled(count):
    """Waits until count() has not grown for a while."""
    last, since = count(), time.monotonic()

    def still():
        nonlocal last, since
        now = count()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 0.3
    wait_until(still, "the node is held back", 10, 0.02)
    return last


@cases(STREAMS)
def test_fault__a_slow_reader_holds_the_node_back_not_the_memory(farm, lab, connect, dialect):
    piece = dialect.piece("x" * 4000)
    total = 6000  # 24 MB

    def script(request):
        request.begin(dialect.kind)
        for i in range(total):
            request.chunk(piece)
            sent[0] = i + 1
        request.chunk(dialect.last())
        request.end()

    sent = [0]
    lab.play(script, answers(dialect))
    before = farm.rss_kib()
    slow = connect(receive_buffer=16384)
    slow.request("POST", dialect.path, dialect.ask(MODEL))
    answer = slow.answer()
    assert answer.piece()
    assert stalled(lambda: sent[0]) < total, "all of it was taken in"
    assert farm.rss_kib() - before < 4096, "memory grew with what the client does not read"
    assert dialect.text(ask(connect, dialect)) == "fine"  # others do not notice
    assert answer.read().end == "chunked"
    assert answer.body == piece * total + dialect.last()

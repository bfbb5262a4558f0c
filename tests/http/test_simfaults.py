# SPDX-License-Identifier: MIT
"""The same faults as megalith-simnode makes them, over a persona and the one it cascades to: what
each node has counted for one x-request-id, and how soon it saw that a client had left."""

import pytest

from dialect import CASES, STREAMS
from farm import FIRST_BYTE_MS
from test_faults import cases

pytestmark = pytest.mark.router
OWN, LAST = ("c1", "c2"), "h1"  # of the alias reasoning

BEFORE = ["hang", "close", "reset", "status=429", "status=502", "status=503", "status=504"]
BEFORE_STREAM = ["sse-error", "hang-head"]
ROWS = [(fail, dialect) for dialect in CASES
        for fail in BEFORE + (BEFORE_STREAM if dialect.stream else [])]
MOMENTS = [("prompt", dialect) for dialect in CASES] + [("tokens", dialect) for dialect in STREAMS]
LATER = ["cut=2", "reset-after=2", "end=2", "bad-chunk=2"]


def ask(connect, dialect, model="reasoning", **more):
    return connect().ask("POST", dialect.path, dialect.ask(model, **more))


def seen(farm, answer):
    """What each node counts for that request: {node: {requests, finished, failed, ...}}"""
    number = answer.field("x-request-id")
    found = {name: farm.stats(name)["ids"].get(number) for name in (*OWN, LAST)}
    return {name: tally for name, tally in found.items() if tally}


def settled(farm, answer, nodes):
    """The same, once these nodes have nothing of it in progress."""
    farm.wait_for(lambda: seen(farm, answer).keys() >= set(nodes) and not any(
        tally["active"] or tally["waiting"] for tally in seen(farm, answer).values()),
        f"{nodes} are done with it")
    return seen(farm, answer)


@pytest.mark.parametrize("fail,dialect", ROWS, ids=[f"{f}-{d}" for f, d in ROWS])
def test_simfault__once_on_each_node_and_never_two_at_once(farm, connect, fail, dialect):
    for node in OWN:
        farm.set(node, fail=fail)
    answer = ask(connect, dialect)
    assert LAST in dialect.text(answer)
    assert answer.field("x-megalith-attempts") == "3"
    assert answer.field("x-megalith-persona") == "fat-brain"
    tallies = settled(farm, answer, (*OWN, LAST))
    assert {name: tally["requests"] for name, tally in tallies.items()} == {
        name: 1 for name in (*OWN, LAST)}
    assert tallies[LAST]["finished"] == 1
    assert all(tallies[name]["finished"] == 0 for name in OWN)
    if fail.startswith("hang"):
        # each was left before the next was asked: the second began a timeout after the first
        left = sorted(tallies[name]["aborted_at_us"] for name in OWN)
        assert left[1] - left[0] > FIRST_BYTE_MS * 1000 * 0.9


@cases(STREAMS)
@pytest.mark.parametrize("fail", LATER)
def test_simfault__in_mid_stream_nobody_else_is_asked(farm, connect, fail, dialect):
    """The tokens come one by one: what a reset overtakes was never there."""
    for node in OWN:
        farm.set(node, fail=fail, tokens=20, tps=50)
    answer = ask(connect, dialect)
    assert answer.status == 200 and answer.end in ("cut", "reset"), answer
    assert answer.field("x-megalith-node").encode() in answer.body and b'"error"' in answer.body
    assert b"[DONE]" not in answer.body and b'"done":true' not in answer.body
    node = answer.field("x-megalith-node")
    tallies = settled(farm, answer, [node])
    assert {name: tally["requests"] for name, tally in tallies.items()} == {node: 1}


@cases(CASES)
def test_simfault__a_slow_head_is_only_slow(farm, connect, dialect):
    for node in OWN:
        farm.set(node, fail="slow-head=100")
    answer = ask(connect, dialect)
    assert dialect.text(answer) and answer.field("x-megalith-attempts") == "1"


@cases(CASES)
def test_simfault__a_truncated_whole_answer_never_ends_clean(farm, connect, dialect):
    for node in OWN:
        farm.set(node, fail="truncate")
    answer = ask(connect, dialect)
    if answer.status == 200 and answer.complete:
        assert LAST in dialect.text(answer)
    else:
        assert not answer.complete or dialect.error_of(answer.json())


@cases(CASES)
def test_simfault__one_failure_then_well_again(farm, connect, dialect):
    for node in OWN:
        farm.set(node, fail="status=503", fail_times=1)
    answers = [ask(connect, dialect) for _ in range(3)]
    assert all(dialect.text(answer) for answer in answers)
    assert sum(int(answer.field("x-megalith-attempts")) for answer in answers) <= 5


@pytest.mark.parametrize("moment,dialect", MOMENTS, ids=[f"{m}-{d}" for m, d in MOMENTS])
def test_simfault__the_node_sees_the_client_leave_within_100_ms(farm, connect, moment, dialect):
    """uv_hrtime() of the node and time.monotonic_ns() of this process are the same clock."""
    for node in OWN:
        farm.set(node, ttft_ms=5000 if moment == "prompt" else 1, tps=20, tokens=1000)
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask("reasoning"))
    if moment == "tokens":
        connection.answer().until(b"says")
    farm.wait_active(*OWN, 1)
    left_ns = connection.leave()
    farm.wait_active(*OWN, 0)
    aborted = [s for s in map(farm.stats, OWN) if s["aborted"]]
    assert len(aborted) == 1
    late_ms = aborted[0]["aborted_at_us"] / 1e3 - left_ns / 1e6
    assert 0 <= late_ms + 0.01 and late_ms <= 100, late_ms
    print(f"the node noticed after {late_ms:.2f} ms")

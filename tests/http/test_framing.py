# SPDX-License-Identifier: MIT
"""requests.cases and responses.cases against the running router: what is refused reaches no node,
what is taken is answered, and the connection stays in step."""

import re

import pytest

import wire
from cases import read
from dialect import WHOLES
from lab import MODEL

pytestmark = pytest.mark.router
REQUESTS, RESPONSES = read("requests.cases"), read("responses.cases")
ANSWER = WHOLES[0].whole("fine")


def row_ids(cases):
    return [case.name for case in cases]


@pytest.fixture
def node(lab):
    return lab.play(lambda request: request.answer(200, ANSWER))


def answers(connection, most):
    """All that come, until the connection ends or says that it will; at most so many."""
    found = []
    while len(found) < most:
        try:
            found.append(connection.answer().read())
        except (EOFError, ConnectionResetError):
            break
        if (found[-1].field("connection") or "").lower() == "close":
            break
    return found


def posts(messages):
    return sum(what.startswith(b"POST") for what, _ in messages)


@pytest.mark.parametrize("case", REQUESTS, ids=row_ids(REQUESTS))
def test_framing__request(node, connect, case):
    messages = case.messages()
    connection = connect(timeout=5)
    connection.sent_bodiless = [what.startswith(b"HEAD ") for what, _ in messages]
    connection.send(case.data)
    if case.verdict == "cut":
        connection.sock.shutdown(1)
    found = answers(connection, len(messages) + (case.verdict != "taken"))
    assert all(answer.complete for answer in found), found
    if case.seen is not None:
        assert len(node.requests) <= posts(messages), case.sentence
    if case.verdict == "refused":
        assert found and (found[-1].status == case.status or len(found) == len(messages)
                          and found[-1].field("connection") == "close"), (case.sentence, found)
        assert connection.closed(), "the connection goes on after ambiguous bytes"
    elif case.verdict == "taken" and messages:
        assert found, case.sentence
        if (found[-1].field("connection") or "").lower() != "close":
            assert len(found) == len(messages), case.sentence
    for request in node.requests:
        assert (b"POST /v1/chat/completions", request.body.replace(b"raw:latest", b"sim")) in [
            (what.split(b"?")[0], body) for what, body in messages] or case.seen is None


@pytest.mark.parametrize("case", RESPONSES, ids=row_ids(RESPONSES))
def test_framing__response(lab, connect, case):
    if case.head:
        pytest.skip("of a HEAD: no request that goes to a node is one")

    def script(request):
        request.send(case.data)
        request.close()

    lab.play(script)
    messages = re.findall(rb"(\d{3}) \[(.*?)\]\.(?=$|\d{3} \[)", case.seen or b"", re.DOTALL)
    finals = [(int(what), body) for what, body in messages if int(what) >= 200]
    answer = connect(timeout=5).ask("POST", WHOLES[0].path, WHOLES[0].ask(MODEL))
    if case.verdict == "taken" and finals:
        status, body = finals[0]
        if status not in (429, 502, 503, 504):
            assert (answer.status, answer.body) == (status, body) and answer.complete, case.sentence
    elif finals and case.seen is not None and finals[0][0] == answer.status:
        assert answer.body == finals[0][1]  # what is wrong comes behind it, and is dropped
    else:
        assert answer.status == 502 or not answer.complete, (case.sentence, answer)
    assert re.match(rb"^[^\0]*$", answer.body) or answer.status == 200
    assert wire.Connection(*lab.farm.router).ask("GET", "/health").status == 200

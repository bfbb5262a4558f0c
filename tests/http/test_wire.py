# SPDX-License-Identifier: MIT
"""Bytes on the wire that are not as they should be: requests.cases from clients, responses.cases from nodes.

What is to be refused is refused with the status that the case says, and no node hears of it. What a node says is passed
on as it was meant, or the client sees an error, or a cut: never a clean wrong answer.
"""

import contextlib
import re
import socket
import threading

import pytest

import cases
import farm as farms
import wire

REQUESTS = [case for case in cases.read("requests.cases") if case.data and not case.parser]
RESPONSES = [case for case in cases.read("responses.cases") if not case.head]
ASK = b'{"model":"raw"}'  # of requests.cases: the scripted nodes have this model
PATH = "/v1/chat/completions"
GOOD = b'{"choices":[],"said":"fine"}'
CAPACITY = 2  # of each node
FRAMING = {414, 431, 501, 505}  # what good requests are never told


def each(which):
    return pytest.mark.parametrize("case", which, ids=[case.name for case in which])


def fine(request):
    request.read_body()
    request.answer(200, GOOD)


class Wire:
    """The two scripted nodes, which have the model `raw`, and a way to the router."""

    def __init__(self, farm):
        self.farm, self.router = farm, farm.router
        self.nodes = [] if farm.direct else [farm.nodes["x1"], farm.nodes["x2"]]

    def play(self, script):
        for node in self.nodes:
            node.script, node.requests = script, []

    def requests(self):
        return [request for node in self.nodes for request in node.requests]

    def connect(self):
        return contextlib.closing(wire.Connection(*self.router))

    def ask(self):
        with self.connect() as connection:
            return connection.ask("POST", PATH, ASK)

    def recover(self):
        """Until both nodes count as good again, whatever the last test has made of them."""
        if self.nodes:
            farms.wait_until(self.both_answer, "both nodes answer through the router", 10, 0.01)
        self.play(fine)

    def both_answer(self):
        """Of so many at once some are asked of the one that is asked last for now."""
        go = threading.Event()

        def busy(request):
            request.read_body()
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD[:1])  # no timer runs
            go.wait(10)
            request.send(GOOD[1:])
        self.play(busy)
        with contextlib.ExitStack() as stack:
            askers = [stack.enter_context(self.connect()) for _ in self.nodes * CAPACITY]
            for asker in askers:
                asker.request("POST", PATH, ASK)
            with contextlib.suppress(farms.LabError):  # one is down just now
                farms.wait_until(lambda: all(n.requests for n in self.nodes), "both are asked", 1, 0.002)
            good = all(n.requests for n in self.nodes)
            go.set()
            return all([asker.answer().read().body == GOOD for asker in askers]) and good


@pytest.fixture(scope="module")
def whole_wire(whole_farm):
    made = Wire(whole_farm)
    made.recover()
    yield made
    for node in made.nodes:
        node.calm()


@pytest.fixture
def clients(whole_wire):
    """For tests that do the nodes no harm."""
    whole_wire.play(fine)
    return whole_wire


@pytest.fixture
def nodes(whole_wire):
    yield whole_wire
    whole_wire.recover()


# --- clients ------------------------------------------------------------------------------------------


def answers_to(case, connection):
    """Sends the case. Of a good one the answers to its messages, of another all until the router closes."""
    whole, answers = case.messages(), []
    connection.sent_bodiless = [what.startswith(b"HEAD ") for what, _ in whole]
    with contextlib.suppress(ConnectionError):  # refused before all was sent
        connection.send(case.data)
    with contextlib.suppress(EOFError, ConnectionResetError):
        while case.verdict != "taken" or len(answers) < len(whole):
            if case.verdict == "cut" and len(answers) == len(whole):
                connection.sock.shutdown(socket.SHUT_WR)
            answers.append(connection.answer().read())
    return answers


def check_answer(what, body, answer):
    assert answer.complete and answer.status >= 200, answer
    assert answer.status not in FRAMING, answer
    if what == b"GET /":
        assert answer.status == 200 or (body and answer.status == 400), answer
    if what == b"POST %s" % PATH.encode():
        assert (answer.status == 200) == (body == ASK), answer


def check_answers(whole, answers):
    """The answers to the good messages. One that the router refuses for what it says may be the last."""
    for (what, body), answer in zip(whole, answers):
        check_answer(what, body, answer)
    if len(answers) < len(whole):
        assert answers[-1].status == 400 and answers[-1].field("connection") == "close", answers


def check_refusal(case, answers):
    """What comes behind the answers to the good messages."""
    if case.verdict == "taken":
        assert not answers
    elif case.verdict == "cut":  # not whole, or too large to wait for
        assert len(answers) < 2 and all(a.status >= 400 and a.complete for a in answers), answers
    elif b"\r\nConnection: close\r\n" in case.data:  # the answer before was the last one
        assert not answers
    else:
        refusal, = answers
        assert refusal.status == case.status and refusal.complete, refusal
        assert "close" in (refusal.field("connection") or ""), refusal


@each(REQUESTS)
def test_wire__request(clients, case):
    whole = case.messages()
    direct = clients.farm.direct  # a simulated node takes the end of what is sent for the end
    if direct and case.verdict == "cut" and whole:
        pytest.skip("MEGALITH_HTTP_DIRECT: there is no router")
    with clients.connect() as connection:
        answers = answers_to(case, connection)
    if not direct:
        check_answers(whole, answers)
    check_refusal(case, answers[len(whole):])
    if direct:
        return
    heard = sum(what == b"POST %s" % PATH.encode() and body == ASK for what, body in whole)
    assert clients.ask().status == 200  # and whatever went before has arrived by now
    bodies = [request.body for request in clients.requests()]
    assert bodies == [ASK] * (heard + 1)


# --- nodes --------------------------------------------------------------------------------------------


def says(case, stays):
    def script(request):
        request.read_body()
        request.send(case.data)
        if not stays:
            request.close()
    return script


def meant(case):
    """(status, body) of the first final answer, if it is a whole one."""
    for status, body in case.messages():
        if status[:1] != b"1":
            return int(status), body
    return None


def check_passed_on(case, answer):
    final = meant(case)
    if final and final[0] == 200:
        assert (answer.status, answer.body) == final and answer.complete, answer
    elif final:  # what a node's errors, or answers that fit no question, become is told elsewhere
        assert answer.status >= 500 or ((answer.status, answer.body) == final and answer.complete), answer
    elif answer.status >= 500:
        assert answer.complete, answer
    else:
        assert answer.status == 200 and answer.end in ("cut", "reset"), answer


@pytest.mark.router
@each(RESPONSES)
def test_wire__response(nodes, case):
    nodes.play(says(case, stays=False))
    check_passed_on(case, nodes.ask())


def left(request):
    """Has the router closed the connection that this request came on?"""
    with contextlib.suppress(OSError):  # the node's thread was first to see it
        return request.wait_left() is not None
    return True


def has_more(case):
    """Bytes behind a whole answer of known length."""
    final = re.match(rb"(?:1\d\d \[.*?\]\.)*([2-5]\d\d \[.*?\]\.)", case.seen or b"", re.DOTALL)
    return final and b"101 [" not in case.seen and (case.verdict == "refused" or final.end() < len(case.seen))


BEHIND = [case for case in RESPONSES if has_more(case)]


@pytest.mark.router
@each(BEHIND)
def test_wire__connection_with_bytes_behind_an_answer_is_not_used_again(nodes, case):
    nodes.play(says(case, stays=True))
    check_passed_on(case, nodes.ask())
    first = nodes.requests()
    nodes.play(fine)
    farms.wait_until(lambda: nodes.ask().status == 200, "the nodes count as good", 10, 0.01)
    for _ in range(4):
        assert nodes.ask().body == GOOD
    assert not {request.sock for request in first} & {request.sock for request in nodes.requests()}
    for request in first:
        assert left(request), "the connection to the node is still open"


@pytest.mark.router
def test_wire__answer_nobody_asked_for_is_no_answer(nodes):
    """It comes while the connection waits for its next request."""
    go, said = threading.Event(), threading.Event()

    def script(request):
        fine(request)
        assert go.wait(10)
        with contextlib.suppress(OSError):
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        said.set()

    nodes.play(script)
    assert nodes.ask().body == GOOD
    early, = nodes.requests()
    nodes.play(fine)
    go.set()
    assert said.wait(10)
    for _ in range(8):
        assert nodes.ask().body == GOOD
    assert left(early)
    assert early.sock not in {request.sock for request in nodes.requests()}

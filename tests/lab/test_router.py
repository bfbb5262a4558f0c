# SPDX-License-Identifier: MIT
"""The HTTP router beside a kernel that steers: one count of what is busy, and what the kernel cannot
place is answered in HTTP."""

import contextlib
import json
import time

import pytest

from labclient import Http, Stream, generate_node
from labfarm import COMMON_MODEL, wait_until
from rig import tally

CRUNCHERS = {"cruncher-internal", "cruncher-egpu"}
HALOS = {"halo-1", "halo-2", "halo-3"}


def ask(connection, path, document):
    connection.request("POST", path, json.dumps(document))
    answer = connection.getresponse()
    answer.text = answer.read().decode()
    return answer


@pytest.fixture
def router(lab):
    with contextlib.closing(Http(lab.gw, "127.0.0.1", 4000)) as made:
        wait_until(lambda: served(lab), "the router serves")
        lab.wait_idle()  # for the kernel, too
        yield made


def served(lab):
    with contextlib.closing(Http(lab.gw, "127.0.0.1", 4000, 2)) as probe:
        try:
            return ask(probe, "/v1/chat/completions", chat("gpt-4")).status == 200
        except OSError:
            return False


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **more}


@contextlib.contextmanager
def streams(lab, machine, persona, count):
    """So many streams that the kernel steers."""
    held = []
    try:
        for _ in range(count):
            held.append(Stream(machine, lab.gw.v4, lab.port(persona)))
        yield held
    finally:
        for stream in held:
            stream.close()


def test_router__an_alias_goes_to_its_persona(router):
    answer = ask(router, "/v1/chat/completions", chat("reasoning"))
    assert answer.status == 200
    assert answer.getheader("x-megalith-node") in CRUNCHERS
    assert answer.getheader("x-megalith-persona") == "cruncher"
    assert answer.getheader("x-megalith-model") == "deepseek-r1:latest"
    assert answer.getheader("x-megalith-attempts") == "1"


def test_router__counts_what_the_kernel_steers(lab, cl1, router):
    """Both crunchers are full with connections that the router never saw."""
    with streams(lab, cl1, "cruncher", 4) as held:
        assert tally(s.node for s in held) == dict.fromkeys(CRUNCHERS, 2)
        time.sleep(0.2)  # what the router last heard is old by now
        answer = ask(router, "/v1/chat/completions", chat("reasoning"))
        assert answer.getheader("x-megalith-persona") == "fat-brain"
        assert answer.getheader("x-megalith-node") in HALOS
        assert answer.getheader("x-megalith-model") == "llama3:70b", "the other name of the model"
        assert all(s.token() for s in held)


def test_router__the_kernel_counts_what_the_router_holds(lab, cl1, router):
    """Four requests in progress at the router fill the crunchers for the kernel, too."""
    asked = [Http(lab.gw, "127.0.0.1", 4000) for _ in range(4)]
    try:
        for connection in asked:
            connection.request("POST", "/v1/chat/completions",
                               json.dumps(chat("reasoning", stream=True, max_tokens=100000)))
        nodes = [c.getresponse().getheader("x-megalith-node") for c in asked]
        assert tally(nodes) == dict.fromkeys(CRUNCHERS, 2)
        for node in CRUNCHERS:
            lab.wait_busy(node, "llm", 2)
        assert generate_node(cl1, lab.gw.v4, lab.port("cruncher")) in HALOS
    finally:
        for connection in asked:
            connection.close()


def test_router__a_full_persona_port_answers_503(lab, cl1, router):
    """All full, also where it cascades to: HTTP gets an answer, not a reset (contract §3.1)."""
    with streams(lab, cl1, "fat-brain", 12):
        with contextlib.closing(Http(cl1, lab.gw.v4, lab.port("fat-brain"))) as late:
            began = time.monotonic()
            answer = ask(late, "/api/chat", {"model": COMMON_MODEL, "messages": []})
            assert answer.status == 503 and answer.getheader("retry-after")
            assert "error" in json.loads(answer.text)
            assert 1.5 < time.monotonic() - began < 4, "it waited for queue_ms"


def test_router__a_place_at_a_persona_port_is_taken_when_it_comes_free(lab, cl1, router):
    with streams(lab, cl1, "fat-brain", 12) as held:
        with contextlib.closing(Http(cl1, lab.gw.v4, lab.port("fat-brain"))) as late:
            late.request("POST", "/api/chat", json.dumps({"model": COMMON_MODEL, "messages": [],
                                                          "stream": False}))
            held.pop().close()
            assert late.getresponse().status == 200


def test_router__a_node_that_dies_is_passed_over_at_once(lab, router):
    """Refused: another node answers the same request, and the kernel stops steering there, too."""
    lab.kill_node("cruncher-internal")
    answers = [ask(router, "/v1/chat/completions", chat("reasoning")) for _ in range(6)]
    assert [a.status for a in answers] == [200] * 6
    assert {a.getheader("x-megalith-node") for a in answers} == {"cruncher-egpu"}

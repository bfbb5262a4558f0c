# SPDX-License-Identifier: MIT
"""The harness itself: the farm comes up, and what the tests lean on tells the truth."""

import pytest

import farm as farms
import wire


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def test_farm__every_node_answers_and_counts(farm):
    for node in farm.simulated():
        document = chat(node.models[0] if node.models else "any")
        answer = wire.Connection(*node.target).ask("POST", "/v1/chat/completions", document)
        assert answer.status == 200 and answer.end == "length", answer
        assert node.stats()["finished"] >= 1


def test_farm__idle_sees_a_request_in_progress(farm):
    node = farm.nodes["c1"]
    node.set(ttft_ms=5000)
    with pytest.raises(Exception, match="slots that did not come back"):
        connection = wire.Connection(*node.target)
        connection.request("POST", "/v1/chat/completions", chat(node.models[0]))
        farms.wait_until(lambda: node.stats()["active"], "the node has begun")
        farm.wait_idle(0.2)
    connection.close()


def test_wire__tells_a_cut_stream_from_a_whole_one(farm):
    node = farm.nodes["c1"]
    document = chat(node.models[0], stream=True)
    answer = wire.Connection(*node.target).ask("POST", "/v1/chat/completions", document)
    found, rest = wire.events(answer.body)
    assert answer.end == "chunked" and found[-1] == "[DONE]" and not rest
    node.set(fail="cut=3")
    answer = wire.Connection(*node.target).ask("POST", "/v1/chat/completions", document)
    assert answer.end in ("cut", "reset") and b"[DONE]" not in answer.body


def test_farm__a_stopped_node_refuses_and_comes_back(farm):
    node = farm.nodes["c2"]
    farm.stop("c2")
    with pytest.raises(ConnectionRefusedError):
        wire.Connection(*node.target)
    farm.start("c2")
    assert wire.Connection(*node.target).ask("GET", "/v1/models").status == 200

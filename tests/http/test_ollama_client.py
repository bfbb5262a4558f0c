# SPDX-License-Identifier: MIT
"""The official ollama client for node, unchanged: every call, its errors, its aborts."""

import pytest

from dialect import CASES
from farm import DIRECT
from lab import MODEL, answers, held
from npmclient import Failed
from test_faults import PLACES, begun, hang
from test_openai_client import BIG, TOOL, failure, sha256

HI = [{"role": "user", "content": "hi"}]
STREAM, WHOLE = CASES[2], CASES[3]
router = pytest.mark.router


def chat(model="rag", **more):
    return {"model": model, "messages": HI, **more}


def text_of(parts):
    return "".join(part["message"]["content"] for part in parts)


# --- calls ----------------------------------------------------------------------------------------

def test_ollama__chat(ollama):
    data = ollama.run("chat", chat())["data"]
    assert " says hello" in data["message"]["content"]
    assert data["done"] and data["done_reason"] == "stop" and data["eval_count"]


def test_ollama__chat_stream(ollama):
    whole = ollama.run("chat", chat())["data"]["message"]["content"]
    call = ollama.start("chat", chat(stream=True))
    parts = call.result()["chunks"]
    assert text_of(parts) == whole
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert call.calls[0]["headers"]["content-type"] == "application/x-ndjson"


def test_ollama__generate(ollama):
    whole = ollama.run("generate", {"model": "rag", "prompt": "p"})["data"]["response"]
    parts = ollama.run("generate", {"model": "rag", "prompt": "p", "stream": True})["chunks"]
    assert " says hello" in whole and "".join(part["response"] for part in parts) == whole


@pytest.mark.parametrize("stream", [True, False])
def test_ollama__tools(ollama, stream):
    result = ollama.run("chat", chat(tools=[TOOL], stream=stream))
    parts = result["chunks"] if stream else [result["data"]]
    calls = [call for part in parts for call in part["message"].get("tool_calls") or []]
    assert calls[0]["function"]["name"] == "get_weather"
    assert calls[0]["function"]["arguments"] == {}


def test_ollama__embed(ollama):
    data = ollama.run("embed", {"model": "rag", "input": ["a", "b"]})["data"]
    assert len(data["embeddings"]) == 2 and any(data["embeddings"][0])


def test_ollama__embeddings(ollama):
    assert any(ollama.run("embeddings", {"model": "rag", "prompt": "a"})["data"]["embedding"])


def test_ollama__version(ollama):
    assert ollama.run("version")["data"]["version"].count(".") == 2


@router
def test_ollama__list(ollama):
    names = {m["name"].removesuffix(":latest") for m in ollama.run("list")["data"]["models"]}
    assert {"rag", "gpt-4", "deepseek-r1", "llama3:70b"} <= names


@router
def test_ollama__ps(ollama):
    assert {"deepseek-r1:latest", "llama3:70b"} <= {
        m["name"] for m in ollama.run("ps")["data"]["models"]}


@pytest.mark.parametrize("name", ["rag", "rag:latest", "llama3:70b"])
def test_ollama__show(ollama, name):
    assert ollama.run("show", {"model": name})["data"]["details"]


def test_ollama__image_of_10_mb(ollama, patient):
    message = {"role": "user", "content": "what?", "images": [{"$blob": BIG}]}
    data = ollama.run("chat", {"model": "vision", "messages": [message]})["data"]
    assert " says hello" in data["message"]["content"]


@router
@pytest.mark.parametrize("dialect", CASES[2:], ids=str)
def test_ollama__image_of_10_mb_arrives_as_it_was_sent(ollama, patient, lab, dialect):
    lab.play(answers(dialect))
    message = {"role": "user", "content": "what?", "images": [{"$blob": BIG}]}
    call = ollama.start("chat", {"model": "lab/raw", "messages": [message],
                                 "stream": dialect.stream})
    call.result()
    got, sent = lab.requests[0].body, call.calls[0]
    assert len(got) == sent["length"] + len("raw:latest") - len("lab/raw") > BIG * 4 // 3
    assert sha256(got.replace(b'"raw:latest"', b'"lab/raw"', 1)) == sent["sha256"]


# --- errors ---------------------------------------------------------------------------------------

def check(failed, status, text=""):
    assert failed.error["name"] == "ResponseError", failed
    assert failed.error["status"] == status and text in failed.error["message"], failed


@router
@pytest.mark.parametrize("stream", [True, False])
def test_ollama_error__404(ollama, stream):
    check(failure(ollama, "chat", chat("nothing", stream=stream)), 404, "nothing")
    check(failure(ollama, "show", {"model": "nothing"}), 404)


def test_ollama_error__400(ollama):
    check(failure(ollama, "chat", {"messages": HI}), 400, "model")


@router
@pytest.mark.parametrize("call,params", [
    ("pull", {"model": "phi"}), ("push", {"model": "phi"}), ("delete", {"model": "phi"}),
    ("copy", {"source": "phi", "destination": "psi"}), ("create", {"model": "psi", "from": "phi"})])
def test_ollama_error__403_what_changes_nodes(ollama, call, params):
    check(failure(ollama, call, params), 403)


@router
@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("stream", [True, False])
def test_ollama_error__of_the_node(ollama, farm, stream, status):
    farm.set("s1", status=status)
    failed = failure(ollama, "chat", chat("fast", stream=stream))
    assert failed.error["name"] == "ResponseError" and failed.error["message"]
    if status in (400, 401, 403, 409, 422, 500):
        check(failed, status, "simulated failure")
    else:
        assert failed.error["status"] in (429, 502, 503, 504)


@router
@pytest.mark.parametrize("how,status", [("hang", 504), ("close", 502), ("reset", 502)])
def test_ollama_error__no_answer(ollama, farm, how, status):
    farm.set("s1", fail=how)
    check(failure(ollama, "chat", chat("fast")), status)


@router
@pytest.mark.parametrize("how", ["cut=3", "reset-after=3", "end=3", "bad-chunk=3", "error-after=3"])
def test_ollama_error__in_mid_stream(ollama, farm, how):
    farm.set("s1", fail=how, tokens=20, tps=50)
    failed = failure(ollama, "chat", chat("fast", stream=True))
    assert failed.error["message"] and " says hello" in text_of(failed.partial), failed


@router
def test_ollama_error__first_goes_to_another(ollama, farm):
    for node in ("c1", "c2"):
        farm.set(node, fail="sse-error")
    assert "h1" in text_of(ollama.run("chat", chat("reasoning", stream=True))["chunks"])


@router
def test_ollama_error__503_all_full(ollama, lab, connect):
    lab.play(held(lab, WHOLE))
    for i in range(PLACES):
        holder = connect()
        holder.request("POST", WHOLE.path, WHOLE.ask(MODEL))
        lab.wait_requests(i + 1)
    failed = failure(ollama, "chat", chat(MODEL))
    check(failed, 503)
    assert int(failed.calls[0]["headers"]["retry-after"]) >= 1
    lab.go.set()


# --- aborts ---------------------------------------------------------------------------------------

def check_aborted(call):
    with pytest.raises(Failed) as failed:
        call.result()
    assert failed.value.error["name"] == "AbortError", failed.value


@router
def test_ollama_abort__while_the_body_is_sent(ollama, lab):
    lab.play(answers(WHOLE))
    message = {"role": "user", "content": "what?", "images": [{"$blob": BIG}]}
    call = ollama.start("chat", {"model": MODEL, "messages": [message]})
    call.event("begin")
    call.cancel()
    check_aborted(call)


@router
@pytest.mark.parametrize("stream", [True, False])
def test_ollama_abort__in_the_queue(ollama, lab, farm, connect, stream):
    lab.play(held(lab, WHOLE))
    for i in range(PLACES):
        holder = connect()
        holder.request("POST", WHOLE.path, WHOLE.ask(MODEL))
        lab.wait_requests(i + 1)
    call = ollama.start("chat", chat(MODEL, stream=stream))
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 1, "it waits")
    call.cancel()
    check_aborted(call)
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 0, "its place is free", 1)
    lab.go.set()


@router
@pytest.mark.parametrize("stream", [True, False])
def test_ollama_abort__before_the_head(ollama, lab, stream):
    lab.play(hang(STREAM if stream else WHOLE))
    call = ollama.start("chat", chat(MODEL, stream=stream))
    request = lab.wait_requests(1)
    call.cancel()
    check_aborted(call)
    assert request.left.wait(1) and len(lab.requests) == 1


@router
def test_ollama_abort__before_the_first_token(ollama, lab):
    lab.play(begun(STREAM))
    call = ollama.start("chat", chat(MODEL, stream=True))
    request = lab.wait_requests(1)
    call.cancel()
    check_aborted(call)
    assert request.left.wait(1)


@pytest.mark.parametrize("how", ["iterator", "client"])
def test_ollama_abort__in_mid_stream(ollama, farm, how):
    for node in farm.simulated():
        node.set(tps=20, tokens=1000)
    call = ollama.start("chat", chat(stream=True), abort=how)
    call.event("chunk", 3)
    call.cancel()
    check_aborted(call)
    name = "all" if DIRECT else "h1"
    farm.wait_for(lambda: farm.stats(name)["aborted"] == 1, "the node has noticed", 1)

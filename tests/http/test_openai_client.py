# SPDX-License-Identifier: MIT
"""The official openai client for node, unchanged: every call, every class of error, aborts, its own
retries."""

import time

import pytest

from dialect import CASES
from farm import DIRECT, MAX_BODY_MB, QUEUE_LENGTH, QUEUE_MS, free_port
from lab import MODEL, answers, held
from npmclient import Failed
from test_faults import PLACES, begun, hang, later_close

HI = [{"role": "user", "content": "hi"}]
STREAM, WHOLE = CASES[0], CASES[1]
TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "d",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
router = pytest.mark.router
BIG = 10_000_000


def failure(client, call, *params, **args):
    """What it threw."""
    with pytest.raises(Failed) as failed:
        client.run(call, *params, **args)
    return failed.value


def chat(model="gpt-4", **more):
    return {"model": model, "messages": HI, **more}


def text_of(chunks):
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


# --- calls ----------------------------------------------------------------------------------------

def test_openai__chat(openai):
    result = openai.run("chat.completions.create", chat())
    choice = result["data"]["choices"][0]
    assert " says hello" in choice["message"]["content"] and choice["finish_reason"] == "stop"
    assert result["data"]["usage"]["total_tokens"]
    assert DIRECT or result["request_id"]


def test_openai__chat_stream(openai):
    whole = openai.run("chat.completions.create", chat("rag"))
    call = openai.start("chat.completions.create", chat("rag", stream=True))
    result = call.result()
    chunks = result["chunks"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert text_of(chunks) == whole["data"]["choices"][0]["message"]["content"]
    assert call.calls[0]["headers"]["content-type"].startswith("text/event-stream")
    assert not any(chunk.get("usage") for chunk in chunks)  # it was not asked for


def test_openai__chat_stream_with_usage(openai):
    chunks = openai.run("chat.completions.create",
                        chat(stream=True, stream_options={"include_usage": True}))["chunks"]
    assert chunks[-1]["usage"]["total_tokens"] and chunks[-1]["choices"] == []


def test_openai__tools(openai):
    message = openai.run("chat.completions.create", chat(tools=[TOOL]))["data"]["choices"][0]
    assert message["finish_reason"] == "tool_calls"
    call = message["message"]["tool_calls"][0]
    assert call["function"]["name"] == "get_weather" and call["type"] == "function"


def test_openai__tools_stream(openai):
    chunks = openai.run("chat.completions.create", chat(tools=[TOOL], stream=True))["chunks"]
    calls = [c for chunk in chunks for c in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "get_weather"
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
def test_openai__embeddings(openai, encoding):
    """Without a word about it the client asks for base64, and decodes it."""
    data = openai.run("embeddings.create", {"model": "rag", "input": ["a", "b"], **encoding})["data"]
    assert [entry["index"] for entry in data["data"]] == [0, 1]
    vector = data["data"][0]["embedding"]
    assert len(vector) >= 8 and any(vector) and all(isinstance(x, (int, float)) for x in vector)


@router
def test_openai__model_list(openai):
    names = {model["id"] for model in openai.run("models.list")}
    assert {"gpt-4", "reasoning", "deepseek-r1:latest", "phi"} <= names


@pytest.mark.parametrize("name", ["gpt-4", "deepseek-r1:latest", "phi"])
def test_openai__model_retrieve(openai, name):
    assert openai.run("models.retrieve", name)["data"]["object"] == "model"


def test_openai__completions(openai):
    data = openai.run("completions.create", {"model": "rag", "prompt": "p"})["data"]
    assert " says hello" in data["choices"][0]["text"]
    chunks = openai.run("completions.create", {"model": "rag", "prompt": "p", "stream": True})["chunks"]
    assert "".join(c["choices"][0]["text"] for c in chunks) == data["choices"][0]["text"]


def test_openai__responses(openai):
    data = openai.run("responses.create", {"model": "rag", "input": "a"})["data"]
    assert data["status"] == "completed" and " says hello" in data["output_text"]


def test_openai__responses_stream(openai):
    chunks = openai.run("responses.create", {"model": "rag", "input": "a", "stream": True})["chunks"]
    assert chunks[-1]["type"] == "response.completed"
    text = "".join(c["delta"] for c in chunks if c["type"] == "response.output_text.delta")
    assert " says hello" in text


def vision():
    return [{"role": "user", "content": [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": {"$url": BIG}}}]}]


def test_openai__image_of_10_mb(openai, patient):
    data = openai.run("chat.completions.create", {"model": "vision", "messages": vision()})["data"]
    assert " says hello" in data["choices"][0]["message"]["content"]


@router
@pytest.mark.parametrize("dialect", CASES[:2], ids=str)
def test_openai__image_of_10_mb_arrives_as_it_was_sent(openai, patient, lab, dialect):
    lab.play(answers(dialect))
    call = openai.start("chat.completions.create", {
        "model": "lab/raw", "messages": vision(), "stream": dialect.stream})
    call.result()
    got, sent = lab.requests[0].body, call.calls[0]
    assert len(got) == sent["length"] + len("raw:latest") - len("lab/raw") > BIG * 4 // 3
    assert sha256(got.replace(b'"raw:latest"', b'"lab/raw"', 1)) == sent["sha256"]


def sha256(data):
    import hashlib
    return hashlib.sha256(data).hexdigest()


def test_openai__transcription(openai):
    data = openai.run("audio.transcriptions.create",
                      {"model": "rag", "file": {"$blob": 1_000_000}})["data"]
    assert data["text"]


def test_openai__speech(openai):
    result = openai.run("audio.speech.create", {"model": "phi", "input": "say", "voice": "alloy"})
    assert result["length"] > 0


def test_openai__images(openai):
    data = openai.run("images.generate", {"model": "phi", "prompt": "a cat"})["data"]
    assert data["data"][0].get("b64_json") or data["data"][0].get("url")


# --- classes of errors ----------------------------------------------------------------------------

@router
def test_openai_error__404_model_not_found(openai):
    failed = failure(openai, "chat.completions.create", chat("nothing"), retries=2)
    assert "NotFoundError" in failed.error["classes"]
    assert (failed.error["status"], failed.error["code"]) == (404, "model_not_found")
    assert failed.error["type"] == "invalid_request_error" and failed.error["requestID"]
    assert len(failed.calls) == 1


def test_openai_error__404_of_models_retrieve(openai):
    name = "nothing/at-all"
    if not DIRECT:
        assert "NotFoundError" in failure(openai, "models.retrieve", name).error["classes"]


def test_openai_error__400_no_model(openai):
    failed = failure(openai, "chat.completions.create", {"messages": HI}, retries=2)
    assert "BadRequestError" in failed.error["classes"] and len(failed.calls) == 1
    assert failed.error["type"] == "invalid_request_error"


@router
def test_openai_error__413(openai):
    big = [{"role": "user", "content": {"$url": MAX_BODY_MB << 20}}]
    failed = failure(openai, "chat.completions.create", {"model": "gpt-4", "messages": big}, retries=2)
    assert failed.error["status"] == 413 and "APIError" in failed.error["classes"]
    assert failed.error["code"] == "request_too_large" and len(failed.calls) == 1


# As a node says them; 429, 502, 503 and 504 are said when all have.
STATUSES = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError",
            409: "ConflictError", 422: "UnprocessableEntityError", 429: "RateLimitError",
            500: "InternalServerError", 502: "InternalServerError", 503: "InternalServerError",
            504: "InternalServerError"}


@router
@pytest.mark.parametrize("status", STATUSES)
def test_openai_error__of_the_node(openai, farm, status):
    farm.set("s1", status=status)
    failed = failure(openai, "chat.completions.create", chat("fast"))
    assert STATUSES[status] in failed.error["classes"], failed
    assert failed.error["message"] and failed.error["type"]
    if status in (400, 401, 403, 409, 422, 500):
        assert failed.error["status"] == status and "simulated failure" in failed.error["message"]


@router
def test_openai_error__504_no_first_byte(openai, farm):
    farm.set("s1", fail="hang")
    failed = failure(openai, "chat.completions.create", chat("fast"))
    assert "InternalServerError" in failed.error["classes"] and failed.error["status"] == 504


@router
def test_openai_error__502_refused(openai, farm):
    farm.stop("s1")
    failed = failure(openai, "chat.completions.create", chat("fast"))
    assert "InternalServerError" in failed.error["classes"]
    assert failed.error["status"] in (502, 503)


@router
@pytest.mark.parametrize("how", ["cut=3", "reset-after=3", "end=3", "bad-chunk=3", "error-after=3"])
def test_openai_error__event_in_mid_stream(openai, farm, how):
    """The client throws, it does not take the half for the whole. Where the node's last event was
    itself a half, it is that which it cannot read."""
    farm.set("s1", fail=how, tokens=20, tps=50)
    failed = failure(openai, "chat.completions.create", chat("fast", stream=True), retries=2)
    wanted = "SyntaxError" if how.startswith("cut") else "APIError"
    assert {wanted, "APIError"} & set(failed.error["classes"]) and failed.error["message"], failed
    assert text_of(failed.partial).startswith("s1")
    assert len(failed.calls) == 1


@router
def test_openai_error__error_event_first_goes_to_another(openai, farm):
    farm.set("c1", fail="sse-error")
    farm.set("c2", fail="sse-error")
    chunks = openai.run("chat.completions.create", chat(stream=True))["chunks"]
    assert "h1" in text_of(chunks)


@router
def test_openai_error__whole_answer_cut(openai, lab):
    def script(request):
        request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                     b"Content-Length: 900\r\n\r\n{\"choices\":")
        request.close()

    lab.play(script)
    failed = failure(openai, "chat.completions.create", chat(MODEL))
    assert failed.error["name"], failed


def test_openai_error__nobody_listens(openai):
    failed = failure(openai, "chat.completions.create", chat(),
                     base=f"http://127.0.0.1:{free_port('127.0.0.1')}/v1")
    assert "APIConnectionError" in failed.error["classes"]


def test_openai_error__the_client_times_out(openai, farm):
    """And so frees the node: the fixture looks."""
    for node in ("c1", "c2", "h1", "all"):
        if node in farm.nodes:
            farm.set(node, ttft_ms=600)
    failed = failure(openai, "chat.completions.create", chat(), timeout=200)
    assert "APIConnectionTimeoutError" in failed.error["classes"]


# --- its own retries ------------------------------------------------------------------------------

@router
def test_openai_retry__503_with_retry_after(openai, lab, farm, connect):
    """All full: 503 + Retry-After after queue_ms; the client waits as told and finds room."""
    lab.play(held(lab, WHOLE))
    for i in range(PLACES):
        holder = connect()
        holder.request("POST", WHOLE.path, WHOLE.ask(MODEL))
        lab.wait_requests(i + 1)
    began = time.monotonic()
    call = openai.start("chat.completions.create", chat(MODEL), retries=2)
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 1, "it waits")
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 0, "it was told to come again")
    assert time.monotonic() - began > QUEUE_MS / 1000 * 0.9
    lab.go.set()
    assert call.result()["data"]["choices"][0]["message"]["content"] == "fine"
    assert [c["status"] for c in call.calls] == [503, 200]
    assert 1 <= int(call.calls[0]["headers"]["retry-after"]) <= 60
    assert time.monotonic() - began < QUEUE_MS / 1000 + 3


@router
def test_openai_retry__each_asks_each_node_once(openai, lab):
    """2 calls of the client, 2 nodes: 4 requests, and then it gives up."""
    lab.play(lambda request: request.answer(503, WHOLE.failure("no"), "Retry-After: 0"))
    failed = failure(openai, "chat.completions.create", chat(MODEL), retries=1)
    assert "InternalServerError" in failed.error["classes"]
    assert [call["status"] for call in failed.calls] == [503] * 2
    assert sorted(lab.nodes_of_requests()) == ["x1"] * 2 + ["x2"] * 2


@router
def test_openai_retry__not_after_the_first_byte(openai, lab):
    def script(request):
        request.begin(STREAM.kind)
        request.chunk(STREAM.piece("one"))
        later_close(request, STREAM)

    lab.play(script)
    failed = failure(openai, "chat.completions.create", chat(MODEL, stream=True), retries=2)
    assert text_of(failed.partial) == "one"
    assert len(failed.calls) == 1 and len(lab.requests) == 1


# --- aborts ---------------------------------------------------------------------------------------

def check_aborted(call):
    with pytest.raises(Failed) as failed:
        call.result()
    assert "APIUserAbortError" in failed.value.error["classes"], failed.value


@router
def test_openai_abort__while_the_body_is_sent(openai, lab):
    lab.play(answers(WHOLE))
    call = openai.start("chat.completions.create", {"model": MODEL, "messages": vision()})
    call.event("begin")
    call.cancel()
    check_aborted(call)


@router
@pytest.mark.parametrize("stream", [True, False])
def test_openai_abort__in_the_queue(openai, lab, farm, connect, stream):
    lab.play(held(lab, WHOLE))
    for i in range(PLACES):
        holder = connect()
        holder.request("POST", WHOLE.path, WHOLE.ask(MODEL))
        lab.wait_requests(i + 1)
    call = openai.start("chat.completions.create", chat(MODEL, stream=stream))
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 1, "it waits")
    call.cancel()
    check_aborted(call)
    farm.wait_for(lambda: farm.metric("megalith_http_queue_length") == 0, "its place is free", 1)
    lab.go.set()
    assert QUEUE_LENGTH and len(lab.requests) == PLACES


@router
@pytest.mark.parametrize("stream", [True, False])
def test_openai_abort__before_the_head(openai, lab, stream):
    dialect = STREAM if stream else WHOLE
    lab.play(hang(dialect))
    call = openai.start("chat.completions.create", chat(MODEL, stream=stream))
    request = lab.wait_requests(1)
    call.cancel()
    check_aborted(call)
    assert request.left.wait(1) and len(lab.requests) == 1


@router
def test_openai_abort__before_the_first_token(openai, lab):
    lab.play(begun(STREAM))
    call = openai.start("chat.completions.create", chat(MODEL, stream=True))
    request = lab.wait_requests(1)
    call.cancel()
    check_aborted(call)
    assert request.left.wait(1)


def test_openai_abort__in_mid_stream(openai, farm):
    """The stream ends without an error for who has aborted it himself."""
    for node in farm.simulated():
        node.set(tps=20, tokens=1000)
    call = openai.start("chat.completions.create", chat("rag", stream=True))
    call.event("chunk", 3)
    call.cancel()
    try:
        assert len(call.result()["chunks"]) < 1000
    except Failed as failed:
        assert "APIUserAbortError" in failed.error["classes"]
    name = "all" if DIRECT else "h1"
    farm.wait_for(lambda: farm.stats(name)["aborted"] == 1, "the node has noticed", 1)

# SPDX-License-Identifier: MIT
"""What comes through the router is what the node said, byte by byte; what goes to the node is what
the client said, but for the model's name."""

import hashlib
import json
import re
import threading
import time

import pytest

import wire
from dialect import CASES, STREAMS
from lab import MODEL

pytestmark = pytest.mark.router
CHAT = [{"role": "user", "content": "hi"}]
LLM, PHI = "deepseek-r1:latest", "phi"

# path, body, the node that is asked directly
ROWS = {
    "chat": ("/v1/chat/completions", {"model": LLM, "messages": CHAT}, "c1"),
    "chat stream": ("/v1/chat/completions", {"model": LLM, "messages": CHAT, "stream": True}, "c1"),
    "chat stream usage": ("/v1/chat/completions", {
        "model": LLM, "messages": CHAT, "stream": True,
        "stream_options": {"include_usage": True}}, "c1"),
    "completions": ("/v1/completions", {"model": LLM, "prompt": "p"}, "c1"),
    "completions stream": ("/v1/completions", {"model": LLM, "prompt": "p", "stream": True}, "c1"),
    "v1 embeddings": ("/v1/embeddings", {"model": LLM, "input": ["a", "b"]}, "c1"),
    "responses": ("/v1/responses", {"model": LLM, "input": "a"}, "c1"),
    "messages": ("/v1/messages", {"model": LLM, "max_tokens": 5, "messages": CHAT}, "c1"),
    "images": ("/v1/images/generations", {"model": LLM, "prompt": "a cat"}, "c1"),
    "speech": ("/v1/audio/speech", {"model": LLM, "input": "say", "voice": "v"}, "c1"),
    "ollama chat": ("/api/chat", {"model": LLM, "messages": CHAT, "stream": False}, "c1"),
    "ollama chat stream": ("/api/chat", {"model": LLM, "messages": CHAT}, "c1"),
    "generate": ("/api/generate", {"model": LLM, "prompt": "p", "stream": False}, "c1"),
    "generate stream": ("/api/generate", {"model": LLM, "prompt": "p"}, "c1"),
    "embed": ("/api/embed", {"model": LLM, "input": ["a", "b"]}, "c1"),
    "embeddings": ("/api/embeddings", {"model": LLM, "prompt": "a"}, "c1"),
    "vllm chat": ("/v1/chat/completions", {"model": PHI, "messages": CHAT}, "s2"),
    "vllm chat stream": ("/v1/chat/completions",
                         {"model": PHI, "messages": CHAT, "stream": True}, "s2"),
}
OWN = re.compile(r"^(x-megalith-.*|x-request-id|connection|keep-alive|date|transfer-encoding|via|x-accel-buffering)$",
                 re.I)  # for nginx before us: a stream is not to be held back


def plain(answer):
    return sorted((n.lower(), v) for n, v in answer.fields if not OWN.match(n))


@pytest.mark.parametrize("name", ROWS)
def test_identity__the_same_as_directly(farm, connect, name):
    path, document, node = ROWS[name]
    there = connect(*farm.nodes[node].target).ask("POST", path, document)
    farm.ctl("drain", "c2")  # the same machine both times: it says its name
    try:
        here = connect().ask("POST", path, document)
    finally:
        farm.ctl("undrain", "c2")
    assert here.field("x-megalith-node") == node
    assert (here.status, here.end) == (there.status, there.end)
    assert wire.masked(here.body) == wire.masked(there.body)
    assert plain(here) == plain(there)


# --- exact bytes, from scripted nodes -------------------------------------------------------------

ODD = [b"data: {\"a\":1}\r\n\r\n", b": comment\n\n", b"data: \xe2\x82", b"\xac\n\n", b"event: x\nid: 7\n",
       b"data: {\"choices\":[]}\n\n", b"\n", b"data: [DONE]\n\n"]


def test_identity__odd_but_good_events_are_not_touched(lab, connect):
    def script(request):
        request.begin("text/event-stream; charset=utf-8", "X-Own: 1", "Cache-Control: no-cache")
        for chunk in ODD:
            request.chunk(chunk)
        request.end()

    lab.play(script)
    answer = connect().ask("POST", STREAMS[0].path, STREAMS[0].ask(MODEL))
    assert answer.body == b"".join(ODD) and answer.end == "chunked"
    assert answer.field("content-type") == "text/event-stream; charset=utf-8"
    assert answer.field("x-own") == "1" and answer.field("cache-control") == "no-cache"
    assert answer.field("content-length") is None


@pytest.mark.parametrize("dialect", STREAMS, ids=str)
def test_identity__each_token_is_forwarded_when_it_comes(lab, connect, dialect):
    """The node sends the next one only after the client has had the last."""
    def script(request):
        request.begin(dialect.kind)
        for i in range(20):
            request.chunk(dialect.piece(f"token-{i}"))
            assert took[i].wait(2), f"token {i} was held back"
        request.chunk(dialect.last())
        request.end()

    took = [threading.Event() for _ in range(20)]
    lab.play(script)
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    answer = connection.answer()
    began = time.monotonic()
    for i in range(20):
        answer.until(dialect.piece(f"token-{i}"))
        took[i].set()
    assert answer.read().end == "chunked"
    assert time.monotonic() - began < 1.0  # 20 round trips


@pytest.mark.parametrize("size", [1, 1000, 65536, 5_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_identity__whole_bodies_of_any_size_and_framing(lab, connect, framing, size):
    body = bytes(i * 7 & 0xff for i in range(1000)) * (size // 1000 + 1)
    body = body[:size]

    def script(request):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        if framing == "length":
            request.send(head + b"Content-Length: %d\r\n\r\n" % size + body)
        elif framing == "chunked":
            request.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 60000):
                request.chunk(body[at:at + 60000])
            request.end()
        else:
            request.send(head + b"\r\n" + body)
            request.close()

    lab.play(script)
    answer = connect().ask("POST", "/v1/audio/speech", {"model": MODEL, "input": "a"})
    assert answer.status == 200 and answer.complete, answer.end
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()
    if framing == "length":
        assert answer.field("content-length") == str(size)


# --- what the node gets ---------------------------------------------------------------------------

BODIES = {  # body as sent, body as the node must get it
    "plain": ('{"model":"lab/raw","messages":[]}', '{"model":"raw:latest","messages":[]}'),
    "spaces": (' { "model"\t:\n "lab/raw" , "messages" : [ ] }\r\n',
               ' { "model"\t:\n "raw:latest" , "messages" : [ ] }\r\n'),
    "last": ('{"messages":[],"model":"lab/raw"}', '{"messages":[],"model":"raw:latest"}'),
    "escaped": ('{"messages":[],"m\\u006fdel":"lab\\/r\\u0061w"}',
                '{"messages":[],"m\\u006fdel":"raw:latest"}'),
    "inner models": ('{"messages":[{"model":"x"}],"model":"lab/raw","o":{"model":["lab/raw"]}}',
                     '{"messages":[{"model":"x"}],"model":"raw:latest","o":{"model":["lab/raw"]}}'),
    "numbers, utf-8": ('{"n":1.0e+05,"s":"\\u00e9 é 😀 \\ud83d\\ude00","model":"lab/raw"}',
                       '{"n":1.0e+05,"s":"\\u00e9 é 😀 \\ud83d\\ude00","model":"raw:latest"}'),
    "other duplicates": ('{"a":1,"a":2,"model":"lab/raw"}', '{"a":1,"a":2,"model":"raw:latest"}'),
}


@pytest.mark.parametrize("name", BODIES)
def test_identity__only_the_model_is_changed(lab, connect, name):
    sent, wanted = (text.encode() for text in BODIES[name])
    lab.play(lambda request: request.answer())
    answer = connect().ask("POST", "/v1/chat/completions", sent)
    assert answer.status == 200, answer
    request = lab.requests[0]
    assert request.body == wanted
    assert request.field("content-length") == str(len(wanted))
    assert request.field("transfer-encoding") is None
    assert request.field("content-type") == "application/json"


@pytest.mark.parametrize("name", BODIES)
def test_identity__the_same_in_chunks_of_one_byte(lab, connect, name):
    sent, wanted = (text.encode() for text in BODIES[name])
    lab.play(lambda request: request.answer())
    connection = connect()
    connection.request("POST", "/v1/chat/completions", b"", ["Transfer-Encoding: chunked"])
    for i in range(len(sent)):
        connection.send(b"1\r\n" + sent[i:i + 1] + b"\r\n")
    connection.send(b"0\r\n\r\n")
    assert connection.answer().read().status == 200
    assert lab.requests[0].body == wanted


def test_identity__ten_megabytes_around_the_model(lab, patient, connect):
    image = "data:image/png;base64," + "QUJD" * 2_500_000
    body = json.dumps({"messages": [{"content": image}], "model": "lab/raw", "tail": 1}).encode()
    lab.play(lambda request: request.answer())
    began = time.monotonic()
    answer = connect().ask("POST", "/v1/chat/completions", body)
    spent = time.monotonic() - began
    assert answer.status == 200
    assert lab.requests[0].body == body.replace(b'"lab/raw"', b'"raw:latest"')
    assert spent < 3


def test_identity__multipart_keeps_all_but_the_model(lab, connect):
    sound = bytes(range(256)) * 4096
    part = (b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
            b'Content-Type: audio/wav\r\n\r\n' + sound + b'\r\n'
            b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n--XyZ--\r\n')
    head, tail = part.split(b"%s")
    lab.play(lambda request: request.answer(200, b'{"text":"hello"}'))
    fields = ["Content-Type: multipart/form-data; boundary=XyZ"]
    answer = connect().ask("POST", "/v1/audio/transcriptions", head + b"lab/raw" + tail, fields)
    assert answer.status == 200, answer
    assert lab.requests[0].body == head + b"raw:latest" + tail
    assert lab.requests[0].field("content-type") == "multipart/form-data; boundary=XyZ"


@pytest.mark.parametrize("dialect", CASES, ids=str)
def test_identity__a_plain_name_is_sent_as_the_node_has_it(lab, connect, dialect):
    lab.play(lambda request: request.answer(200, dialect.whole("x") if not dialect.stream
                                            else dialect.failure("x")))
    body = json.dumps(dialect.ask("raw")).encode()
    connect().ask("POST", dialect.path, body)
    assert lab.requests[0].body in (body, body.replace(b'"raw"', b'"raw:latest"'))

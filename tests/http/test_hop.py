# SPDX-License-Identifier: MIT
"""HTTP/1.1 through the hop: which fields go on, what the framing is, what a connection is good for
afterwards."""

import json
import socket
import threading
import time
from email.utils import format_datetime, parsedate_to_datetime

import pytest

import wire
from dialect import CASES, STREAMS, WHOLES
from farm import MAX_BODY_MB
from lab import MODEL, answers

pytestmark = pytest.mark.router
CHAT, WHOLE, STREAM = "/v1/chat/completions", WHOLES[0], STREAMS[0]


def body(model=MODEL, dialect=WHOLE):
    return json.dumps(dialect.ask(model)).encode()


# --- fields towards the node ----------------------------------------------------------------------

def test_hop__fields_of_this_hop_stay_here(lab, connect):
    lab.play(answers(WHOLE))
    fields = ["Connection: keep-alive, X-Private", "X-Private: 1", "Keep-Alive: timeout=5",
              "Proxy-Connection: keep-alive", "TE: trailers", "Upgrade: h2c", "X-Mine: yes",
              "Accept: application/json", "X-OpenWebUI-Chat-Id: 7"]
    assert WHOLE.text(connect().ask("POST", CHAT, body(), fields)) == "fine"
    request = lab.requests[0]
    names = {name for name, _ in request.fields}
    assert not names & {"x-private", "keep-alive", "proxy-connection", "te", "upgrade",
                        "transfer-encoding", "expect"}
    assert request.field("x-mine") == "yes" and request.field("accept") == "application/json"
    assert request.field("x-openwebui-chat-id") == "7"
    assert request.field("host") == "%s:%d" % request.node.target
    assert (request.field("connection") or "").lower() in ("", "keep-alive", "close")
    assert sum(name == "host" for name, _ in request.fields) == 1


@pytest.mark.parametrize("trick", ["content-length", "host", "authorization", "content-type",
                                   "transfer-encoding"])
def test_hop__connection_cannot_strip_what_others_rely_on(lab, connect, trick):
    lab.play(answers(WHOLE))
    answer = connect().ask("POST", CHAT, body(), [f"Connection: {trick}"])
    if answer.status == 200:
        request = lab.requests[0]
        assert request.body and request.field("host") and request.field("content-type")
        assert request.field("content-length") == str(len(request.body))
    else:
        assert answer.status == 400 and not lab.requests


KEY = "sk-something-long"
KEYS = [f"Authorization: Bearer {KEY}", f"x-api-key: {KEY}", f"Proxy-Authorization: Basic {KEY}"]


@pytest.mark.parametrize("path", [case.path for case in WHOLES] + ["/api/show", "/api/embed"])
def test_hop__the_keys_of_clients_stay_here(lab, connect, path):
    """They are the gateway's, asked for or not: a node has no business with them."""
    lab.play(lambda request: request.answer(200, b"{}"))
    assert connect().ask("POST", path, body(), KEYS).status == 200
    request, = lab.requests
    assert not {name for name, _ in request.fields} & {"authorization", "x-api-key",
                                                       "proxy-authorization"}
    assert KEY.encode() not in request.head


ORIGIN = ["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1, 192.0.2.2", "X-Real-IP: 192.0.2.1",
          "X-Forwarded-For: 192.0.2.3", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https",
          "X-Forwarded-Port: 1", "Via: 1.0 before"]


@pytest.mark.parametrize("where", ["router", "persona port"])
def test_hop__where_a_request_comes_from_is_said_anew(farm, lab, connect, where):
    """Of what a client says of itself nothing reaches a node; Via is a list, and grows."""
    lab.play(answers(WHOLE))
    target = farm.router if where == "router" else ("127.0.0.1", farm.port("lab"))
    connection = connect(*target, source="127.0.0.7")
    assert WHOLE.text(connection.ask("POST", CHAT, body(), ORIGIN)) == "fine"
    request, = lab.requests
    told = [(name, value) for name, value in request.fields
            if name.startswith("x-forwarded") or name in ("forwarded", "x-real-ip")]
    assert told == [("x-forwarded-for", "127.0.0.7")]
    via = [value for name, value in request.fields if name == "via"]
    assert via in (["1.0 before", "1.1 megalith"], ["1.0 before, 1.1 megalith"])


def test_hop__the_query_goes_on(lab, connect):
    lab.play(answers(WHOLE))
    assert WHOLE.text(connect().ask("POST", CHAT + "?a=1&b=%20", body())) == "fine"
    assert lab.requests[0].target == CHAT + "?a=1&b=%20"


# --- fields towards the client --------------------------------------------------------------------

def test_hop__fields_of_the_nodes_hop_stay_there(lab, connect):
    fields = ["Connection: keep-alive, X-Private", "X-Private: 1", "Keep-Alive: timeout=5",
              "Proxy-Connection: close", "X-Own: yes", "x-megalith-node: liar",
              "x-request-id: of-the-node", "Set-Cookie: a=1", "Set-Cookie: b=2",
              "Content-Encoding: identity", "Retry-After: 3"]
    lab.play(lambda request: request.answer(200, WHOLE.whole("fine"), *fields))
    answer = connect().ask("POST", CHAT, body())
    names = {name.lower() for name, _ in answer.fields}
    assert not names & {"x-private", "keep-alive", "proxy-connection", "upgrade"}
    assert answer.field("x-own") == "yes" and answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer.field("content-encoding") == "identity" and answer.field("retry-after") == "3"
    assert answer.field("x-megalith-node") == lab.requests[0].node.name
    assert len(answer.all("x-request-id")) == 1


def test_hop__each_answer_has_an_id_of_its_own(farm, connect):
    connection = connect()
    ids = [connection.ask("GET", "/v1/models").field("x-request-id") for _ in range(5)]
    ids += [connection.ask("POST", CHAT, body("fast")).field("x-request-id") for _ in range(5)]
    ids += [connection.ask("POST", CHAT, body("nothing")).field("x-request-id") for _ in range(5)]
    assert all(ids) and len(set(ids)) == 15


def says_now(answer):
    """Date is there once, in the one form that is allowed (RFC 9110 5.6.7), and of now."""
    date = parsedate_to_datetime(answer.field("date"))
    assert format_datetime(date, usegmt=True) == answer.field("date")
    return abs(time.time() - date.timestamp()) < 3


@pytest.mark.parametrize("method,path,status", [
    ("GET", "/health", 200), ("GET", "/v1/models", 200), ("GET", "/nothing", 404),
    ("DELETE", "/v1/models", 405), ("POST", "/api/pull", 403), ("HEAD", "/", 200)])
def test_hop__the_routers_own_answers_have_a_date(farm, connect, method, path, status):
    answer = connect().ask(method, path, b"{}" if method == "POST" else None)
    assert answer.status == status and says_now(answer)


def test_hop__a_date_is_added_where_a_node_sends_none(lab, connect):
    old = "Sun, 06 Nov 1994 08:49:37 GMT"
    lab.play(answers(WHOLE), lambda request: request.answer(200, WHOLE.whole("old"), f"Date: {old}"))
    assert says_now(connect().ask("POST", CHAT, body()))
    assert connect().ask("POST", CHAT, body()).all("date") == [old]


# --- what a node may send besides -----------------------------------------------------------------

INTERIM = (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
           b"HTTP/1.1 102 Processing\r\n\r\n")


def interim(request):
    request.send(INTERIM)
    answers(WHOLE)(request)


def test_hop__interim_answers_are_passed_over(lab, connect):
    lab.play(interim)
    answer = connect().ask("POST", CHAT, body())
    assert WHOLE.text(answer) == "fine" and answer.interim == []


def test_hop__interim_answers_are_passed_on_at_persona_ports(farm, lab, connect):
    """But for 100, which was not asked for."""
    lab.play(interim)
    connection = connect("127.0.0.1", farm.port("lab"))
    connection.request("POST", CHAT, body())
    hints = connection.answer(interim=True)
    assert hints.status == 103 and hints.field("link") == "</x>"
    assert connection.answer(interim=True).status == 102
    assert WHOLE.text(connection.answer(interim=True).read()) == "fine"
    old = connect("127.0.0.1", farm.port("lab")).ask("POST", CHAT, body(), (), "1.0")
    assert old.interim == [] and WHOLE.text(old) == "fine"


BAD_ANSWERS = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
                     b"2\r\n{}\r\n0\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n  2\r\nContent-Length: 2\r\n\r\n{}",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "NUL": b"HTTP/1.1 200 OK\r\nX-A: \x00\r\nContent-Length: 2\r\n\r\n{}",
    "no version": b"200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 99": b"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\n{}",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "huge head": b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 200000 + b"\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_hop__an_ambiguous_answer_is_none(lab, connect, name):
    def script(request):
        request.send(BAD_ANSWERS[name])
        request.wait_left()

    lab.play(script)
    answer = connect().ask("POST", CHAT, body())
    assert answer.status == 502 and WHOLE.error_of(answer.json()), answer


def test_hop__bytes_behind_an_answer_are_nobodys(lab, connect):
    """The connection is not used again: the next request gets its own answer. (They come together:
    nobody could tell bytes that come a moment later from an answer to the next request.)"""
    def script(request):
        body = WHOLE.whole("first")
        request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                     + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    lab.play(script, answers(WHOLE, "second"))
    connection = connect()
    assert WHOLE.text(connection.ask("POST", CHAT, body())) == "first"
    for _ in range(4):
        assert WHOLE.text(connection.ask("POST", CHAT, body())) == "second"


def test_hop__a_kept_connection_that_the_node_closed_meanwhile(lab, connect):
    """The request is not lost: nothing of it was done there."""
    def script(request):
        answers(WHOLE)(request)
        request.close()  # says keep-alive, closes

    lab.play(script)
    connection = connect()
    for _ in range(8):
        assert WHOLE.text(connection.ask("POST", CHAT, body())) == "fine"


def test_hop__an_answer_while_the_body_is_still_coming(farm, connect):
    """413 is said early; what comes behind it is not taken for a request."""
    connection = connect()
    size = (MAX_BODY_MB << 20) + 1
    connection.send(wire.head("POST", CHAT, b"", [f"Content-Length: {size}"]))
    began = time.monotonic()
    answer = connection.answer().read()
    assert answer.status == 413 and WHOLE.error_of(answer.json())
    assert answer.json()["error"]["code"] == "request_too_large"
    assert time.monotonic() - began < 1
    assert (answer.field("connection") or "").lower() == "close"


def test_hop__too_much_in_chunks(farm, connect):
    connection = connect()
    connection.send(wire.head("POST", CHAT, b"", ["Transfer-Encoding: chunked"]))
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    try:
        for _ in range(MAX_BODY_MB + 2):
            connection.send(piece)
    except OSError:
        pass  # it has closed: the answer may be lost then, but must not be a good one
    try:
        assert connection.answer().read().status == 413
    except (OSError, EOFError):
        pytest.fail("413 was lost: the router did not linger")


def test_hop__the_largest_body_that_is_allowed(lab, patient, connect):
    lab.play(answers(WHOLE))
    document = WHOLE.ask(MODEL)
    document["pad"] = ""
    document["pad"] = "x" * ((MAX_BODY_MB << 20) - len(json.dumps(document)))
    text = json.dumps(document).encode()
    assert len(text) == MAX_BODY_MB << 20
    assert WHOLE.text(connect().ask("POST", CHAT, text)) == "fine"


DRAIN_MAX = 65536  # of a body that nobody wants


def framed(text, chunked):
    """The body's fields, and how it goes over the wire."""
    if not chunked:
        return [f"Content-Length: {len(text)}"], text
    step = max(1, len(text) // 3)
    pieces = [text[i:i + step] for i in range(0, len(text), step)]
    return ["Transfer-Encoding: chunked"], b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


framings = pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])


@framings
@pytest.mark.parametrize("method,path,status", [("GET", "/v1/models", 200), ("HEAD", "/health", 200),
                                                ("DELETE", "/v1/models", 405)])
def test_hop__a_body_that_nobody_wants_is_thrown_away_up_to_64_kib(farm, connect, chunked, method,
                                                                   path, status):
    fields, text = framed(b"GET /x HTTP/1.1\r\n\r\n" + b" " * (DRAIN_MAX - 19), chunked)
    connection = connect()
    for _ in range(2):
        connection.send(wire.head(method, path, None, fields) + text)
        connection.sent_bodiless.append(method == "HEAD")
        assert connection.answer().read().status == status
    fields, text = framed(b" " * (4 * DRAIN_MAX if chunked else DRAIN_MAX + 1), chunked)
    connection.send(wire.head(method, path, None, fields) + text)
    connection.sent_bodiless.append(method == "HEAD")
    answer = connection.answer().read()
    assert answer.status == (413 if status == 200 else status), answer
    if method == "GET":
        assert answer.json()["error"]["code"] == "request_too_large"
    assert (answer.field("connection") or "").lower() == "close" and connection.closed()


FORM = (b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nraw\r\n--x--\r\n',
        "Content-Type: multipart/form-data; boundary=x")
MEDIA = {
    "coding": (CHAT, b"\x1f\x8b\x08" + b"x" * 20, ["Content-Encoding: gzip"]),
    "coding, ollama": ("/api/chat", b"\x1f\x8b\x08" + b"x" * 20, ["Content-Encoding: gzip"]),
    "form for JSON": (CHAT, FORM[0], [FORM[1]]),
    "JSON for a form": ("/v1/audio/transcriptions", b'{"model":"raw"}', []),
}


@pytest.mark.parametrize("name", MEDIA)
def test_hop__media_that_a_path_does_not_take_are_415(lab, connect, name):
    lab.play(answers(WHOLE))
    path, text, fields = MEDIA[name]
    connection = connect()
    answer = connection.ask("POST", path, text, fields)
    assert answer.status == 415 and not lab.requests
    error = answer.json()["error"]
    assert isinstance(error, str) if path == "/api/chat" else error["code"] == "unsupported_media_type"
    assert WHOLE.text(connection.ask("POST", CHAT, body(), ["Content-Encoding: identity"])) == "fine"


def test_hop__options_is_answered_with_the_methods(farm, connect):
    connection = connect()
    for path, allow in ((CHAT, "POST"), ("/v1/models", "GET"), ("/api/tags", "GET")):
        answer = connection.ask("OPTIONS", path, None, ["Origin: http://x",
                                                        "Access-Control-Request-Method: POST"])
        assert answer.status == 405 and allow in answer.field("allow")
        assert not [name for name, _ in answer.fields if name.lower().startswith("access-control")]


# --- Expect, HEAD, HTTP/1.0 -----------------------------------------------------------------------

def test_hop__expect_100_continue_is_answered(lab, connect):
    lab.play(answers(WHOLE))
    connection = connect()
    text = body()
    connection.send(wire.head("POST", CHAT, b"", [f"Content-Length: {len(text)}",
                                                  "Expect: 100-continue"]))
    assert connection.answer(interim=True).status == 100
    connection.send(text)
    assert WHOLE.text(connection.answer().read()) == "fine"
    assert lab.requests[0].field("expect") is None


def test_hop__expect_is_not_waited_for_when_the_body_is_there(lab, connect):
    lab.play(answers(WHOLE))
    connection = connect()
    assert WHOLE.text(connection.ask("POST", CHAT, body(), ["Expect: 100-continue"])) == "fine"


def test_hop__expect_of_a_body_that_is_too_large_is_a_final_answer(farm, connect):
    connection = connect()
    connection.send(wire.head("POST", CHAT, b"", ["Content-Length: 99999999",
                                                  "Expect: 100-continue"]))
    assert connection.answer(interim=True).read().status == 413


def test_hop__an_unknown_expectation_is_417(farm, connect):
    assert connect().ask("POST", CHAT, body(), ["Expect: miracles"]).status == 417


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/api/tags", "/api/version"])
def test_hop__head_is_get_without_the_body(farm, connect, path):
    connection = connect()
    got = connection.ask("GET", path)
    head = connection.ask("HEAD", path)
    assert (head.status, head.body) == (got.status, b"")
    if path != "/api/version":  # two nodes may be of two versions
        assert head.field("content-length") in (None, str(len(got.body)))
    assert connection.ask("GET", path).body == got.body  # the connection is still in step


@pytest.mark.parametrize("dialect", CASES, ids=str)
def test_hop__an_http_1_0_client_gets_no_chunks(lab, connect, dialect):
    lab.play(answers(dialect, "fine words"))
    connection = connect()
    answer = connection.ask("POST", dialect.path, body(dialect=dialect), (), "1.0")
    assert answer.field("transfer-encoding") is None and answer.status == 200
    if dialect.stream:
        assert answer.end == "close" and dialect.text(answer) == "finewords"
    else:
        assert dialect.text(answer) == "fine words"
    assert connection.closed()


def test_hop__an_http_1_0_client_sees_a_cut_stream_as_a_reset(lab, connect):
    """A close would look like the end."""
    def script(request):
        request.begin(STREAM.kind)
        request.chunk(STREAM.piece("one"))
        request.close()

    lab.play(script)
    answer = connect().ask("POST", CHAT, body(dialect=STREAM), (), "1.0")
    assert answer.end == "reset" or b'"error"' in answer.body
    assert b"[DONE]" not in answer.body


def test_hop__an_http_1_0_client_may_keep_its_connection(lab, connect):
    """It has to ask for it, and is told; where only the end of the connection ends an answer, that
    is not so."""
    lab.play(answers(WHOLE), answers(STREAM))
    connection, keep = connect(), ["Connection: keep-alive"]
    for method, path, text in (("GET", "/health", None), ("GET", "/nothing", None),
                               ("POST", CHAT, body())):
        answer = connection.ask(method, path, text, keep, "1.0")
        assert answer.end == "length" and answer.field("connection").lower() == "keep-alive"
    answer = connection.ask("POST", CHAT, body(dialect=STREAM), keep, "1.0")
    assert answer.end == "close" and STREAM.text(answer) == "fine"
    assert (answer.field("connection") or "close").lower() == "close"
    connection = connect()
    assert connection.ask("GET", "/health", None, (), "1.0").status == 200 and connection.closed()


def test_hop__a_node_that_speaks_http_1_0(lab, connect):
    def script(request):
        request.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + WHOLE.whole("old"))
        request.close()

    lab.play(script)
    assert WHOLE.text(connect().ask("POST", CHAT, body())) == "old"


# --- connections ----------------------------------------------------------------------------------

def test_hop__one_connection_many_requests(farm, connect):
    connection = connect()
    for i in range(30):
        dialect = CASES[i % 4]
        answer = connection.ask("POST", dialect.path, dialect.ask("fast", max_tokens=3))
        assert "s1" in dialect.text(answer)


def test_hop__pipelined_requests_are_answered_in_order(lab, connect):
    lab.play(lambda request: request.answer(200, request.body))
    texts = [body() for _ in range(5)]
    connection = connect()
    connection.send(b"".join(wire.head("POST", CHAT, text) for text in texts))
    for text in texts:
        answer = connection.answer().read()
        assert answer.body == text.replace(b'"raw"', b'"raw:latest"') or answer.body == text


def test_hop__thousands_of_small_requests_at_once(lab, connect):
    """They wait behind one that takes its time."""
    def late(request):
        assert lab.go.wait(10)
        answers(WHOLE)(request)

    lab.play(late)
    connection, count = connect(), 5000
    connection.request("POST", CHAT, body())
    lab.wait_requests(1)
    sender = threading.Thread(target=connection.send,
                              args=(b"GET / HTTP/1.1\r\nHost:x\r\n\r\n" * count,))
    sender.start()
    sender.join(1)  # as much as the kernel takes is there; the rest follows
    lab.go.set()
    assert WHOLE.text(connection.answer().read()) == "fine"
    assert {connection.answer().read().status for _ in range(count)} == {200}
    sender.join()
    assert connection.ask("GET", "/health").status == 200


def test_hop__an_error_behind_a_pipelined_request_comes_after_its_answer(lab, connect):
    lab.play(answers(WHOLE))
    connection = connect()
    connection.send(wire.head("POST", CHAT, body()) + b"NONSENSE\r\n\r\n")
    assert WHOLE.text(connection.answer().read()) == "fine"
    assert connection.answer().read().status == 400
    assert connection.closed()


@pytest.mark.parametrize("what", ["unknown model", "bad json", "unknown path", "forbidden", "method"])
def test_hop__keep_alive_goes_on_after_an_error(farm, connect, what):
    method, path, text, status = {
        "unknown model": ("POST", CHAT, body("nothing"), 404),
        "bad json": ("POST", CHAT, b"{", 400), "unknown path": ("POST", "/nothing", b"{}", 404),
        "forbidden": ("POST", "/api/pull", b"{}", 403), "method": ("DELETE", CHAT, None, 405)}[what]
    connection = connect()
    for _ in range(3):
        answer = connection.ask(method, path, text)
        assert answer.status == status
        if (answer.field("connection") or "").lower() == "close" and status in (403, 404, 405) \
                and what != "unknown model":
            assert connection.closed()  # refused before its body was read: it may
            return
        assert "s1" in WHOLE.text(connection.ask("POST", CHAT, body("fast")))


def test_hop__keep_alive_goes_on_after_a_node_failed(lab, connect):
    lab.play(lambda request: request.close())
    connection = connect()
    for _ in range(3):
        assert connection.ask("POST", CHAT, body()).status in (502, 503)
    assert "s1" in WHOLE.text(connection.ask("POST", CHAT, body("fast")))


def test_hop__connection_close_is_obeyed(farm, connect):
    connection = connect()
    answer = connection.ask("POST", CHAT, body("fast"), ["Connection: close"])
    assert WHOLE.text(answer) and (answer.field("connection") or "").lower() == "close"
    assert connection.closed()


@pytest.mark.parametrize("whole_close", [True, False], ids=["close", "half close"])
@pytest.mark.parametrize("where", ["router", "persona port"])
def test_hop__a_client_that_shuts_its_side_down_is_gone(farm, lab, connect, where, whole_close):
    """A close and a half close look the same from here: who wants the answer keeps its side open."""
    lab.play(lambda request: request.wait_left())
    connection = connect(*(farm.router if where == "router" else ("127.0.0.1", farm.port("lab"))))
    connection.request("POST", CHAT, body())
    request, left_ns = lab.wait_requests(1), time.monotonic_ns()
    if whole_close:
        connection.close()
    else:
        connection.sock.shutdown(socket.SHUT_WR)
    assert request.left.wait(2) and request.left_ns - left_ns < 100e6
    assert whole_close or connection.closed()


def test_hop__who_shuts_its_side_down_gets_what_it_is_owed(farm, connect):
    """Answers that are complete, but not taken yet."""
    connection, count = connect(receive_buffer=4096, segment=536), 400
    connection.send(wire.head("GET", "/v1/models") * count)
    whole = connect().ask("GET", "/v1/models").body
    assert connection.readable(2)
    connection.sock.shutdown(socket.SHUT_WR)
    connection.sent_bodiless = [False] * count
    taken = 0
    while connection.readable(2):
        try:
            answer = connection.answer().read()
        except EOFError:
            break
        assert answer.body == whole, answer
        taken += 1
    assert taken > 0 and connection.closed()


FRAMING = {  # refused, the connection closed, nothing of it forwarded
    "both framings": ["Content-Length: 3", "Transfer-Encoding: chunked"],
    "two lengths": ["Content-Length: 3", "Content-Length: 3"], "list": ["Content-Length: 3, 3"],
    "plus": ["Content-Length: +3"], "empty": ["Content-Length:"],
    "other coding": ["Transfer-Encoding: gzip, chunked"],
    "not last": ["Transfer-Encoding: chunked, gzip"], "x": ["Transfer-Encoding: xchunked"],
    "space": ["Content-Length : 3"], "fold": ["X-A: 1\r\n Content-Length: 3"],
}


@pytest.mark.parametrize("name", FRAMING)
def test_hop__ambiguous_framing_is_refused(lab, connect, name):
    lab.play(answers(WHOLE))
    connection = connect()
    hidden = wire.head("POST", CHAT, body())
    lines = "\r\n".join([f"POST {CHAT} HTTP/1.1", "Host: x", "Content-Type: application/json",
                         *FRAMING[name]])
    connection.send(lines.encode() + b"\r\n\r\n" + b"0\r\n\r\n" + hidden)
    answer = connection.answer().read()
    assert answer.status in (400, 501), answer
    assert connection.closed()
    assert not lab.requests


def test_hop__no_host_is_refused(farm, connect):
    connection = connect()
    connection.send(b"GET /v1/models HTTP/1.1\r\n\r\n")
    assert connection.answer().read().status == 400


@pytest.mark.parametrize("method,status", [("TRACE", (405, 501)), ("CONNECT", (400, 405, 501)),
                                           ("BREW", (400, 405, 501))])
def test_hop__odd_methods(farm, connect, method, status):
    target = "example.org:443" if method == "CONNECT" else "/v1/models"
    assert connect().ask(method, target).status in status


def test_hop__a_head_that_is_too_large(farm, connect):
    connection = connect()
    connection.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: " + b"x" * 100000 + b"\r\n\r\n")
    assert connection.answer().read().status == 431
    connection = connect()
    fields = b"".join(b"X-%d: 1\r\n" % i for i in range(200))
    connection.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
    assert connection.answer().read().status == 431

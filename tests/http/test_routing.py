# SPDX-License-Identifier: MIT
"""Which node gets a request, and what the router says by itself."""

import json
import re

import pytest

from dialect import CASES, STREAMS, WHOLES
from lab import MODEL, answers

pytestmark = pytest.mark.router

# model as a client sends it → nodes it may reach, persona, name on the node
MODELS = {
    "reasoning": ("c1 c2", "cruncher", "deepseek-r1:latest"),
    "reasoning:latest": ("c1 c2", "cruncher", "deepseek-r1:latest"),  # as Open WebUI sends it
    "code": ("c1 c2", "cruncher", "qwen2.5-coder:latest"),
    "rag": ("h1", "fat-brain", "llama3:70b"),
    "vision": ("m1", "media-lab", "llama3.2-vision:latest"),
    "fast": ("s1", "swarm", "llama3.2:3b"),
    "gpt-4": ("c1 c2", "cruncher", "deepseek-r1:latest"),
    "gpt-4o": ("m1", "media-lab", "llama3.2-vision:latest"),
    "gpt-3.5-turbo": ("s1", "swarm", "llama3.2:3b"),
    "cruncher/deepseek-r1:latest": ("c1 c2", "cruncher", "deepseek-r1:latest"),
    "cruncher/deepseek-r1": ("c1 c2", "cruncher", "deepseek-r1:latest"),
    "fat-brain/llama3:70b": ("h1", "fat-brain", "llama3:70b"),
    "swarm/llama3.2:1b": ("s1", "swarm", "llama3.2:1b"),
    "swarm/phi": ("s2", "swarm", "phi"),
    "deepseek-r1:latest": ("c1 c2", "cruncher", "deepseek-r1:latest"),
    "deepseek-r1": ("c1 c2", "cruncher", "deepseek-r1:latest"),
    "qwen2.5-coder": ("c1 c2", "cruncher", "qwen2.5-coder:latest"),
    "llama3:70b": ("h1", "fat-brain", "llama3:70b"),
    "llama3.2:1b": ("s1", "swarm", "llama3.2:1b"),
    "phi": ("s2", "swarm", "phi"),
    "phi:latest": ("s2", "swarm", "phi"),
}
UNKNOWN = ["nothing", "llama3", "llama3:8b", "REASONING", "media-lab/llama3:70b", "nobody/phi",
           "cruncher/", "/phi", "../phi", "reasoning:7b", "reasoning ", "a\nb", "é", "x" * 255]


def same_model(one, other):
    return one.removesuffix(":latest") == other.removesuffix(":latest")


@pytest.mark.parametrize("model", MODELS)
def test_route__a_name_finds_its_node(farm, connect, model):
    nodes, persona, name = MODELS[model]
    for dialect in CASES:
        if not dialect.openai and nodes == "s2":
            continue  # vLLM does not speak Ollama
        answer = connect().ask("POST", dialect.path, dialect.ask(model))
        node = answer.field("x-megalith-node")
        assert node in nodes.split() and node in dialect.text(answer)
        assert answer.field("x-megalith-persona") == persona
        assert same_model(answer.field("x-megalith-model"), name)
        assert answer.field("x-megalith-attempts") == "1"
        assert answer.field("x-request-id")
        assert answer.field("x-simnode") == node


@pytest.mark.parametrize("dialect", CASES, ids=str)
@pytest.mark.parametrize("model", UNKNOWN, ids=repr)
def test_route__an_unknown_name_is_not_found(farm, connect, dialect, model):
    answer = connect().ask("POST", dialect.path, dialect.ask(model))
    assert answer.status == 404 and answer.end == "length", answer
    assert dialect.error_of(answer.json())
    if dialect.openai:
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "model_not_found")
    assert answer.field("x-request-id")
    assert not any("\n" in value for _, value in answer.fields)


@pytest.mark.parametrize("model", ["phi", "phi:latest", "swarm/phi", "only-openai"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/show"])
def test_route__a_model_that_no_node_of_the_dialect_has(farm, connect, path, model):
    """Only a vLLM node has it: another one will not come by waiting, so it is no 503."""
    with farm.aliased(**{"only-openai": [{"persona": "swarm", "model": "phi"}]}):
        answer = connect().ask("POST", path, {"model": model, "prompt": "x", "messages": []})
        assert answer.status == 404 and isinstance(answer.json()["error"], str), answer
        assert "Ollama" in answer.json()["error"] and model in answer.json()["error"]
        assert answer.field("retry-after") is None and farm.stats("s2")["requests"] == 0
        dialect = WHOLES[0]
        assert "s2" in dialect.text(connect().ask("POST", dialect.path, dialect.ask(model)))


# --- an alias with several models -----------------------------------------------------------------

@pytest.mark.parametrize("dialect", CASES, ids=str)
def test_targets__a_node_that_is_busy_is_asked_for_the_next_model(farm, connect, dialect):
    """Both targets are on one node: 503 may be the model's affair."""
    farm.set("s1", status=503, fail_times=1)
    answer = connect().ask("POST", dialect.path, dialect.ask("fast"))
    assert "s1" in dialect.text(answer)
    assert [answer.field("x-megalith-" + name) for name in ("node", "model", "attempts")] \
        == ["s1", "llama3.2:1b", "2"]
    assert farm.stats("s1")["requests"] == 2


@pytest.mark.parametrize("status,code", [(503, "overloaded"), (429, "rate_limit_exceeded")])
def test_targets__all_models_of_it_are_busy(farm, connect, status, code):
    dialect = WHOLES[0]
    farm.set("s1", status=status)
    answer = connect().ask("POST", dialect.path, dialect.ask("fast"))
    assert answer.status == status and answer.json()["error"]["code"] == code
    assert answer.field("x-megalith-attempts") == "2" and farm.stats("s1")["requests"] == 2


@pytest.mark.parametrize("fail", ["close", "reset"])
def test_targets__a_node_that_broke_is_not_asked_for_the_next_model(farm, connect, fail):
    dialect = WHOLES[0]
    farm.stop("s1")  # no connection to it is kept, which it could break for its age
    farm.start("s1")
    farm.wait_for(farm.healthy, "it is back")
    farm.set("s1", fail=fail)
    answer = connect().ask("POST", dialect.path, dialect.ask("fast"))
    assert answer.status == 502 and dialect.error_of(answer.json())
    assert answer.field("x-megalith-attempts") == "1" and farm.stats("s1")["requests"] == 1


def test_targets__a_node_that_refused_is_not_asked_for_the_next_model(farm, connect):
    dialect = WHOLES[0]
    farm.stop("s1")
    answer = connect().ask("POST", dialect.path, dialect.ask("fast"))
    assert answer.status in (502, 503) and dialect.error_of(answer.json())
    assert answer.field("x-megalith-attempts") in ("1", "0")  # 0: a probe was quicker


BAD_BODIES = {
    "no model": b"{}", "null": b'{"model":null}', "number": b'{"model":1}', "empty": b'{"model":""}',
    "array": b'["model"]', "nothing": b"", "no JSON": b"model=gpt-4", "half": b'{"model":"phi"',
    "trailing": b'{"model":"phi"} x', "two": b'{"model":"phi"}{"model":"phi"}',
    "twice": b'{"model":"phi","model":"raw"}', "twice escaped": b'{"model":"phi","mod\\u0065l":"raw"}',
    "stream twice": b'{"model":"phi","stream":true,"stream":false}',
    "bad utf-8": b'{"model":"phi","a":"\xff"}', "lone surrogate": b'{"model":"phi","a":"\\ud800"}',
    "NUL": b'{"model":"ph\\u0000i"}', "deep": b'{"model":"phi","a":' + b"[" * 100000 + b"]" * 100000 + b"}",
    "too long": b'{"model":"' + b"x" * 8192 + b'"}', "NaN": b'{"model":"phi","a":NaN}',
    "single quotes": b"{'model':'phi'}", "comment": b'{"model":"phi"/**/}',
}


@pytest.mark.parametrize("dialect", WHOLES, ids=str)
@pytest.mark.parametrize("name", BAD_BODIES)
def test_route__a_body_that_parsers_disagree_on_is_refused(farm, connect, name, dialect):
    before = sum(node.stats()["requests"] for node in farm.simulated())
    answer = connect().ask("POST", dialect.path, BAD_BODIES[name])
    assert answer.status == (404 if name == "too long" else 400) or answer.status == 400, answer
    assert dialect.error_of(answer.json())
    assert b"phi" not in answer.body or name not in ("twice",)
    assert sum(node.stats()["requests"] for node in farm.simulated()) == before


def test_route__paths_without_v1_are_the_same(farm, connect):
    """As LiteLLM sends them."""
    dialect = WHOLES[0]
    answer = connect().ask("POST", "/chat/completions", dialect.ask("phi"))
    assert "s2" in dialect.text(answer)
    assert connect().ask("GET", "/models").json() == connect().ask("GET", "/v1/models").json()


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/api/nothing", "/v1/chat/completion",
                                  "/v1/chat/completions/", "/v1", "//", "/sim/stats", "/sim/set"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_route__an_unknown_path_goes_to_no_node(farm, connect, path, method):
    answer = connect().ask(method, path, {"model": "phi"} if method == "POST" else None)
    assert answer.status == 404 and answer.json()["error"], answer
    assert not answer.field("x-simnode")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/models", "/api/tags"])
def test_route__a_wrong_method_is_told_the_right_ones(farm, connect, path):
    wrong = "GET" if path in ("/v1/chat/completions", "/api/chat") else "POST"
    answer = connect().ask(wrong, path, {"model": "phi"} if wrong == "POST" else None)
    assert answer.status == 405 and answer.json()["error"]
    assert ("POST" if wrong == "GET" else "GET") in answer.field("allow")


@pytest.mark.parametrize("method,path", [
    ("POST", "/api/pull"), ("POST", "/api/push"), ("POST", "/api/create"), ("POST", "/api/copy"),
    ("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:00"), ("HEAD", "/api/blobs/sha256:00")])
def test_route__operator_paths_are_forbidden(farm, connect, method, path):
    answer = connect().ask(method, path, None if method == "HEAD" else {"model": "phi"})
    assert answer.status == 403, answer
    if method != "HEAD":
        assert isinstance(answer.json()["error"], str)


# --- what the router says by itself ---------------------------------------------------------------

EVERY_ALIAS = ["reasoning", "code", "rag", "vision", "fast", "gpt-4", "gpt-4o", "gpt-3.5-turbo"]
EVERY_MODEL = ["deepseek-r1:latest", "qwen2.5-coder:latest", "llama3:70b", "llama3.2-vision:latest",
               "llama3.2:3b", "llama3.2:1b", "raw:latest"]


def test_own__v1_models_lists_aliases_and_models(farm, connect):
    answer = connect().ask("GET", "/v1/models")
    assert answer.status == 200 and answer.field("content-type") == "application/json"
    document = answer.json()
    names = [entry["id"] for entry in document["data"]]
    assert document["object"] == "list" and len(names) == len(set(names))
    assert set(EVERY_ALIAS) | set(EVERY_MODEL) | {"phi"} <= set(names)
    for entry in document["data"]:
        assert entry["object"] == "model" and isinstance(entry["created"], int) and entry["owned_by"]


def test_own__a_model_that_a_dead_node_had_is_still_known(farm, connect):
    """Its node may come back: clients keep their lists."""
    farm.stop("h1")
    farm.wait_down("h1")
    answer = connect().ask("POST", "/api/chat", {"model": "llama3:70b", "messages": []})
    assert answer.status == 503 and answer.field("retry-after"), answer


def test_own__one_model_of_v1_models(farm, connect):
    for name in ("reasoning", "deepseek-r1:latest", "deepseek-r1", "phi", "cruncher/deepseek-r1"):
        answer = connect().ask("GET", f"/v1/models/{name}")
        assert answer.status == 200 and answer.json()["object"] == "model", answer
    answer = connect().ask("GET", "/v1/models/nothing")
    assert answer.status == 404 and answer.json()["error"]["code"] == "model_not_found"


def test_own__api_tags_lists_aliases_and_models(farm, connect):
    entries = connect().ask("GET", "/api/tags").json()["models"]
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names))
    with_tag = {name if ":" in name else name + ":latest" for name in EVERY_ALIAS + EVERY_MODEL}
    assert with_tag <= {name if ":" in name else name + ":latest" for name in names}
    for entry in entries:
        assert entry["model"] == entry["name"]
        assert re.match(r"^\d{4}-\d\d-\d\dT", entry["modified_at"])
        assert isinstance(entry["size"], int) and entry["digest"] and "details" in entry


def test_own__api_ps_lists_what_is_loaded(farm, connect):
    loaded = {entry["name"]: entry for entry in connect().ask("GET", "/api/ps").json()["models"]}
    assert {"deepseek-r1:latest", "llama3:70b"} <= set(loaded)
    listed = {entry["name"] for entry in connect().ask("GET", "/api/tags").json()["models"]}
    assert set(loaded) <= listed  # Open WebUI joins them by name
    for entry in loaded.values():
        assert re.match(r"^\d{4}-\d\d-\d\dT", entry["expires_at"])


def test_own__api_version_is_dotted_numbers(farm, connect):
    assert re.match(r"^\d+\.\d+\.\d+$", connect().ask("GET", "/api/version").json()["version"])


@pytest.mark.parametrize("model", ["reasoning", "reasoning:latest", "deepseek-r1", "llama3:70b"])
@pytest.mark.parametrize("key", ["model", "name"])
def test_own__api_show_of_models_and_aliases(farm, connect, model, key):
    """Frigate asks it first, and switches itself off when it fails."""
    answer = connect().ask("POST", "/api/show", {key: model})
    assert answer.status == 200 and "details" in answer.json(), answer


def test_own__api_show_of_an_unknown_model(farm, connect):
    answer = connect().ask("POST", "/api/show", {"model": "nothing"})
    assert answer.status == 404 and isinstance(answer.json()["error"], str)


def test_own__hello_and_health(farm, connect):
    hello = connect().ask("GET", "/")
    assert hello.status == 200 and hello.body  # n8n tests with it
    for path in ("/health", "/health/readiness"):
        assert connect().ask("GET", path).status == 200
    assert connect().ask("HEAD", "/").status == 200


def test_own__ready_means_that_some_node_is_up(farm, connect):
    for node in farm.nodes.values():
        node.stop()
    for name in farm.nodes:
        farm.wait_down(name)
    assert connect().ask("GET", "/health").status == 200
    farm.wait_for(lambda: connect().ask("GET", "/health/readiness").status == 503, "not ready")


def test_own__no_prompt_and_no_answer_is_in_any_log(farm, connect):
    secret = "xyzzy-plugh"
    dialect = WHOLES[0]
    connect().ask("POST", dialect.path, dialect.ask("phi", secret))
    connect().ask("POST", dialect.path, dialect.ask(secret))
    connect().ask("GET", "/v1/models/" + secret)
    assert secret not in farm.controller.log()


# --- which of several nodes -----------------------------------------------------------------------

def test_choose__the_least_busy_node(farm, connect):
    dialect = CASES[0]
    for node in ("c1", "c2"):
        farm.set(node, tps=1, tokens=1000)
    held = []
    for i in range(4):
        held.append(connect())
        held[-1].request("POST", dialect.path, dialect.ask("reasoning"))
        farm.wait_active("c1", "c2", i + 1)
    assert [farm.stats(node)["active"] for node in ("c1", "c2")] == [2, 2]
    answer = connect().ask("POST", dialect.path, dialect.ask("reasoning"))  # all full: cascade
    assert answer.field("x-megalith-node") == "h1"
    assert answer.field("x-megalith-model") == "llama3:70b"
    assert answer.field("x-megalith-attempts") == "1"  # full is no failure
    for connection in held:
        connection.close()


def test_choose__never_more_than_capacity(farm, connect):
    """However many come at once: the simulated node would take 64."""
    dialect = CASES[0]
    farm.set("s1", ttft_ms=30)
    held = [connect() for _ in range(8)]  # 4 places, 4 in the queue
    for connection in held:
        connection.request("POST", dialect.path, dialect.ask("fast"))
    for connection in held:
        assert "s1" in dialect.text(connection.answer().read())
    assert farm.stats("s1")["max_active"] <= 4


def test_choose__a_drained_node_gets_nothing_new(farm, connect):
    dialect = WHOLES[0]
    farm.ctl("drain", "c1")
    try:
        for _ in range(6):
            answer = connect().ask("POST", dialect.path, dialect.ask("reasoning"))
            assert answer.field("x-megalith-node") == "c2"
    finally:
        farm.ctl("undrain", "c1")


@pytest.mark.parametrize("dialect", STREAMS, ids=str)
def test_choose__a_stream_on_a_node_that_is_drained_goes_on(farm, lab, connect, dialect):
    def script(request):
        request.begin(dialect.kind)
        request.chunk(dialect.piece("one"))
        assert lab.go.wait(10)
        request.chunk(dialect.piece("two"))
        request.chunk(dialect.last())
        request.end()

    lab.play(script, answers(dialect, "new"))
    connection = connect()
    connection.request("POST", dialect.path, dialect.ask(MODEL))
    answer = connection.answer().until(dialect.piece("one"))
    node = lab.wait_requests(1).node
    farm.ctl("drain", node.name)
    try:
        farm.wait_for(lambda: farm.nodes_up() == farm.full - 1, "the router knows of it")
        for _ in range(4):
            new = connect().ask("POST", dialect.path, dialect.ask(MODEL))
            assert dialect.text(new) == "new"
            assert new.field("x-megalith-node") == lab.other(node).name
        farm.wait_for(lambda: farm.busy(node.name) == 1, "the stream still holds its place")
        assert not lab.requests[0].abandoned()
        lab.go.set()
        assert dialect.text(answer.read()) == "onetwo"
    finally:
        farm.ctl("undrain", node.name)


def test_choose__weight_zero_gets_nothing(farm, connect):
    dialect = WHOLES[0]
    farm.ctl("weight", "c2", "0")
    try:
        for _ in range(6):
            answer = connect().ask("POST", dialect.path, dialect.ask("reasoning"))
            assert answer.field("x-megalith-node") == "c1"
    finally:
        farm.ctl("weight", "c2", "100")


def test_choose__one_alias_more_after_a_reload(farm, connect):
    dialect = WHOLES[0]
    document = farm.config()
    document["models"]["brandnew"] = "fast"
    farm.write_config(document)
    try:
        farm.ctl("reload")
        farm.wait_model("brandnew")
        assert "s1" in dialect.text(connect().ask("POST", dialect.path, dialect.ask("brandnew")))
    finally:
        farm.write_config()
        farm.ctl("reload")
    farm.wait_model("brandnew", there=False)


def test_metrics__requests_are_counted_by_model_node_and_code(farm, connect):
    dialect = WHOLES[0]

    def count():
        return farm.metric("megalith_http_requests_total", node="s2", code="200")
    before = count()
    for _ in range(3):
        dialect.text(connect().ask("POST", dialect.path, dialect.ask("phi")))
    farm.wait_for(lambda: count() >= before + 3, "three more requests are counted")
    labels = [row for row, _ in farm.metrics()["megalith_http_requests_total"]]
    assert all(row.keys() >= {"model", "node", "code"} for row in labels)
    names = set(farm.metrics())
    for name in ("megalith_http_first_byte_seconds", "megalith_http_overhead_seconds"):
        assert name + "_bucket" in names and name + "_count" in names
    assert "megalith_http_queue_length" in names
    farm.wait_for(lambda: "megalith_http_requests_total" in farm.control("GET", "/metrics"),
                  "the controller tells them too")


def test_metrics__an_unknown_model_makes_no_new_label(farm, connect):
    """A client could fill the memory with them."""
    dialect = WHOLES[0]
    for i in range(5):
        connect().ask("POST", dialect.path, dialect.ask(f"made-up-{i}"))
    assert not any("made-up" in json.dumps(row)
                   for row, _ in farm.metrics().get("megalith_http_requests_total", []))

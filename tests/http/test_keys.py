# SPDX-License-Identifier: MIT
"""Keys: who may ask, what others are told, and that a key is nowhere to be read."""

import os
import signal
from pathlib import Path

import pytest

import farm as farms
import npmclient
import wire
from dialect import CASES

pytestmark = pytest.mark.router

ALICE, BOB, MALLORY = "sk-alice-0123456789abcdef", "sk-bob-fedcba9876543210", "sk-mallory-0000000"
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# who may ask\n{ALICE}\n\n{BOB}\n")
    path.chmod(0o600)
    made = farms.Farm(nodes={"s1": farms.NODES["s1"]},
                      personas={"swarm": {"nodes": ["s1"], "listen": ["llm"]}},
                      aliases={"fast": [{"persona": "swarm", "model": "llama3.2:3b"}]},
                      router={"keys_file": str(path)}, direct=False)
    made.keys_path = path
    made.up()
    yield made
    made.down()


@pytest.fixture
def ask(keyed):
    """ask(dialect, *fields): the answer, over a connection of its own."""
    def send(dialect, *fields, body=None):
        connection = wire.Connection(*keyed.router)
        try:
            return connection.ask("POST", dialect.path, body or dialect.ask("fast"), fields)
        finally:
            connection.close()
    yield send
    keyed.wait_idle()


def bearer(key):
    return f"Authorization: Bearer {key}"


GOOD = {"bearer": bearer(ALICE), "bearer, small": f"authorization: bearer {ALICE}",
        "x-api-key": f"x-api-key: {BOB}"}
BAD = {
    "none": [], "another": [bearer(MALLORY)], "cut": [bearer(ALICE[:-1])],
    "longer": [bearer(ALICE + "0")], "two in one": [bearer(f"{ALICE},{BOB}")],
    "basic": [f"Authorization: Basic {ALICE}"], "bare": [f"Authorization: {ALICE}"],
    "empty": ["Authorization: Bearer"], "comment": [bearer("# who may ask")],
    "x-api-key of another": [f"x-api-key: {MALLORY}"], "other case": [bearer(ALICE.upper())],
    "huge": [bearer("k" * 20000)],
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("dialect", CASES, ids=str)
def test_keys__a_good_key_is_served(ask, dialect, name):
    assert "s1" in dialect.text(ask(dialect, GOOD[name]))


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("dialect", CASES, ids=str)
def test_keys__anything_else_is_401_in_the_dialects_shape(keyed, ask, dialect, name):
    before = keyed.stats("s1")["requests"]
    answer = ask(dialect, *BAD[name])
    assert answer.status == 401, answer
    if dialect.openai:
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert dialect.error_of(answer.json())
    assert not any(key.encode() in answer.body for key in (ALICE, BOB, MALLORY))
    assert keyed.stats("s1")["requests"] == before


@pytest.mark.parametrize("path", ["/v1/models", "/api/tags", "/api/ps", "/v1/models/fast", "/models",
                                  "/v1/nothing", "/api/pull"])
def test_keys__lists_want_one_too(keyed, path):
    method = "POST" if path == "/api/pull" else "GET"
    assert wire.Connection(*keyed.router).ask(method, path).status == 401


def test_keys__health_wants_none(keyed):
    """Load balancers and containers ask it."""
    assert wire.Connection(*keyed.router).ask("GET", "/health").status == 200


def test_keys__refused_before_the_body_has_come(keyed):
    """A stranger cannot have 16 MB read."""
    connection = wire.Connection(*keyed.router)
    connection.send(wire.head("POST", "/v1/chat/completions", b"", ["Content-Length: 16000000"]))
    answer = connection.answer().read()
    assert answer.status == 401
    connection.close()


def test_keys__a_host_that_looks_like_a_path_opens_nothing(keyed):
    """As it once did elsewhere: the path is taken from the target alone."""
    fields = ["Host: localhost:4000/health#@x"]
    answer = wire.Connection(*keyed.router).ask("GET", "/v1/models", None, fields)
    assert answer.status in (400, 401)


def test_keys__the_key_is_not_sent_on_to_a_node(keyed, ask):
    """simnode tells what it was asked; what cannot be seen there is looked for in its memory of
    requests."""
    dialect = CASES[1]
    assert ask(dialect, bearer(ALICE)).status == 200
    assert ALICE not in str(keyed.stats("s1"))


def reload_by_signal(keyed):
    os.kill(keyed.controller.child.pid, signal.SIGHUP)


def reload_by_ctl(keyed):
    keyed.ctl("reload")


@pytest.mark.parametrize("how", [reload_by_signal, reload_by_ctl])
def test_keys__a_reload_takes_one_away_and_adds_one(keyed, ask, how):
    dialect = CASES[1]
    before = keyed.keys_path.read_text()
    keyed.keys_path.write_text(f"{BOB}\n{MALLORY}\n")
    try:
        how(keyed)
        keyed.wait_for(lambda: ask(dialect, bearer(MALLORY)).status == 200, "the new key is known")
        assert ask(dialect, bearer(ALICE)).status == 401
        assert ask(dialect, bearer(BOB)).status == 200
    finally:
        keyed.keys_path.write_text(before)
        keyed.ctl("reload")
    keyed.wait_for(lambda: ask(dialect, bearer(ALICE)).status == 200, "the old keys are back")


def test_keys__a_bad_file_leaves_the_old_keys(keyed, ask):
    dialect = CASES[1]
    before = keyed.keys_path.read_text()
    keyed.keys_path.write_text("short\n")
    try:
        assert keyed.ctl("reload", check=False).returncode in (1, 2)
        assert ask(dialect, bearer(ALICE)).status == 200
    finally:
        keyed.keys_path.write_text(before)
        keyed.ctl("reload")


def test_keys__in_no_log_and_no_command_line(keyed, ask):
    for key in (ALICE, MALLORY):
        ask(CASES[1], bearer(key))
    texts = [keyed.logs()]
    for pid in (keyed.controller.child.pid, keyed.proxy_pid):
        texts += [Path(f"/proc/{pid}/{what}").read_text(errors="replace")
                  for what in ("cmdline", "environ")]
    texts += [keyed.control("GET", path) for path in ("/v1/status", "/v1/plan", "/metrics")]
    texts.append(keyed.ctl("status").stdout)
    for key in (ALICE, BOB, MALLORY):
        assert not any(key in text for text in texts)


def test_keys__the_clients_see_an_authentication_error(keyed, npm):
    base = "http://%s:%d" % keyed.router
    client = npmclient.Client("openai", base + "/v1")
    try:
        with pytest.raises(npmclient.Failed) as failed:
            client.run("chat.completions.create", {"model": "fast", "messages": HI}, key=MALLORY,
                       retries=2)
        assert "AuthenticationError" in failed.value.error["classes"]
        assert failed.value.error["status"] == 401 and len(failed.value.calls) == 1
        result = client.run("chat.completions.create", {"model": "fast", "messages": HI}, key=ALICE)
        assert "s1" in result["data"]["choices"][0]["message"]["content"]
    finally:
        client.close()
    client = npmclient.Client("ollama", base)
    try:
        with pytest.raises(npmclient.Failed) as failed:
            client.run("chat", {"model": "fast", "messages": HI})
        assert failed.value.error["name"] == "ResponseError"
        assert failed.value.error["status"] == 401
        result = client.run("chat", {"model": "fast", "messages": HI},
                            headers={"Authorization": f"Bearer {ALICE}"})
        assert "s1" in result["data"]["message"]["content"]
    finally:
        client.close()


def test_keys__no_core_file_could_hold_one(keyed):
    limits = Path(f"/proc/{keyed.proxy_pid}/limits").read_text().splitlines()
    core, = [line.split() for line in limits if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"], core

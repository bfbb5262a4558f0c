# SPDX-License-Identifier: MIT
"""A persona with "affinity": "client" and two ComfyUI nodes: what a client has queued there is known
to one of them only, so it has to come back to the same."""

import pytest

from farm import DIRECT, Farm, missing, wait_until
from test_ports import UPGRADE

pytestmark = pytest.mark.router

NODES = ("g1", "g2")
CLIENTS = [f"127.0.0.{n}" for n in range(20, 32)]


@pytest.fixture(scope="module")
def whole_farm():
    if DIRECT or missing():
        pytest.skip("no router here")
    with Farm(nodes={name: {"services": {"image": {"engine": "comfyui", "capacity": 16}}}
                     for name in NODES},
              personas={"studio": {"nodes": list(NODES), "listen": ["image"], "affinity": "client"},
                        "any": {"nodes": list(NODES), "listen": ["image"]}},
              aliases={}) as made:
        yield made


@pytest.fixture
def ask(farm, connect):
    """ask(client's address, method, path, body): an answer, over a connection of its own"""
    def send(client, method, path, body=None, persona="studio"):
        to = connect("127.0.0.1", farm.port(persona, "image"), source=client)
        return to.ask(method, path, body)
    return send


def node_of(answer):
    assert answer.status == 200, answer
    assert answer.field("x-megalith-node") == answer.field("x-simnode")
    return answer.field("x-simnode")


def test_affinity__a_clients_prompt_and_its_history_are_on_one_node(ask):
    """With other clients in between; all of them together use both nodes."""
    prompts = {}
    for client in CLIENTS:
        answer = ask(client, "POST", "/prompt", {"prompt": {}, "client_id": client})
        prompts[client] = node_of(answer), answer.json()["prompt_id"]
    assert {node for node, _ in prompts.values()} == set(NODES)
    for client in CLIENTS:
        node, prompt = prompts[client]
        done = wait_until(lambda: ask(client, "GET", f"/history/{prompt}").json(), "it is done")
        assert set(done) == {prompt}
        for path in ("/queue", "/history", f"/history/{prompt}", "/system_stats"):
            assert node_of(ask(client, "GET", path)) == node
        assert prompt in ask(client, "GET", "/history").json()


def test_affinity__many_requests_on_a_kept_connection_stay_too(farm, connect):
    for client in CLIENTS[:4]:
        to = connect("127.0.0.1", farm.port("studio", "image"), source=client)
        assert len({node_of(to.ask("GET", "/queue")) for _ in range(8)}) == 1


def test_affinity__without_it_a_client_is_spread(ask):
    assert {node_of(ask(CLIENTS[0], "GET", "/queue", persona="any")) for _ in range(24)} == set(NODES)


def test_affinity__a_client_that_listens_stays_although_the_other_node_is_idle(farm, ask, connect):
    """Its websocket is a request that its node is busy with."""
    for client in CLIENTS[:4]:
        socket = connect("127.0.0.1", farm.port("studio", "image"), source=client)
        socket.request("GET", "/ws?clientId=1", None, UPGRADE)
        answer = socket.answer(interim=True)
        assert answer.status == 101
        node = answer.field("x-megalith-node")
        farm.wait_for(lambda: farm.busy(node) == 1, "it is counted")
        for _ in range(4):
            assert node_of(ask(client, "POST", "/prompt", {"prompt": {}})) == node
        others = {node_of(ask(client, "GET", "/queue", persona="any")) for _ in range(8)}
        assert others == set(NODES) - {node}, "without affinity it is the less busy one"
        socket.close()
        farm.wait_for(lambda: not farm.busy(node), "it is free")


def test_affinity__while_its_node_is_away_only_its_clients_move(farm, ask):
    before = {client: node_of(ask(client, "GET", "/queue")) for client in CLIENTS}
    farm.stop("g1")
    farm.wait_down("g1")
    farm.wait_for(lambda: {node_of(ask(client, "GET", "/queue")) for client in CLIENTS} == {"g2"},
                  "all are at the other node")
    farm.start("g1")
    farm.wait_for(farm.healthy, "it is back")
    farm.wait_for(lambda: {client: node_of(ask(client, "GET", "/queue")) for client in CLIENTS} == before,
                  "all are where they were")

# SPDX-License-Identifier: MIT
"""An alias with "affinity": "session": a conversation stays on its node, whose cache knows it."""

import pytest

from dialect import WHOLES

pytestmark = pytest.mark.router

CHAT = WHOLES[0]
HEADERS = ("x-openwebui-chat-id", "x-session-id")


def node(connect, session=None, header="x-session-id"):
    fields = [f"{header}: {session}"] if session else []
    return connect().ask("POST", CHAT.path, CHAT.ask("chat"), fields).field("x-megalith-node")


@pytest.mark.parametrize("header", HEADERS)
def test_session__stays_on_its_node(farm, connect, header):
    for session in ("one", "two", "three", "four"):
        assert len({node(connect, session, header) for _ in range(4)}) == 1


def test_session__different_ones_are_spread(farm, connect):
    assert {node(connect, f"conversation {i}") for i in range(24)} == {"c1", "c2"}


def test_session__without_an_id_it_is_the_clients_address(farm, connect):
    assert len({node(connect) for _ in range(8)}) == 1


def test_session__other_aliases_do_not_care(farm, connect):
    fields = ["x-session-id: one"]
    found = {connect().ask("POST", CHAT.path, CHAT.ask("reasoning"), fields).field("x-megalith-node")
             for _ in range(24)}
    assert found == {"c1", "c2"}


def test_session__moves_while_its_node_is_away_and_comes_back(farm, connect):
    """Only its own sessions move; those of the others stay where they are."""
    before = {i: node(connect, f"conversation {i}") for i in range(12)}
    farm.nodes["c1"].stop()
    farm.wait_down("c1")
    away = {i: node(connect, f"conversation {i}") for i in range(12)}
    assert set(away.values()) == {"c2"}
    farm.nodes["c1"].start()
    farm.wait_for(lambda: node(connect, f"conversation {next(i for i in before if before[i] == 'c1')}")
                  == "c1", "the sessions are back")
    assert {i: node(connect, f"conversation {i}") for i in range(12)} == before

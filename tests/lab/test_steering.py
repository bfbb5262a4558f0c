# SPDX-License-Identifier: MIT
"""The main job: a connection to a persona port reaches the best node of the persona, and works."""

import contextlib

import pytest

from labfarm import DEFAULT_PERSONAS
from rig import (KEEP, RAW, RAW_NODES, RawClient, ask, at_once, configured, counters, held, tally,
                 window)
from labclient import generate_node, wyoming_node

MEGABYTES_5 = 5 * 1024 * 1024


def nodes_that_answer(lab, client, address, persona, service, requests):
    port = lab.port(persona, service)
    who = wyoming_node if service == "voice" else generate_node
    return tally(who(client, address, port) for _ in range(requests))


def members(lab, persona, service):
    return {n for n in lab.persona_specs[persona]["nodes"]
            if service in lab.node_specs[n]["services"]}


LISTENERS = [(p, s) for p, spec in DEFAULT_PERSONAS.items() for s in spec["listen"]]


@pytest.mark.parametrize("persona,service", LISTENERS)
def test_steering__each_persona_over_ipv4(lab, cl1, persona, service):
    before = counters(lab)
    answered = nodes_that_answer(lab, cl1, lab.gw.v4, persona, service, 30)
    after = counters(lab)
    assert set(answered) == members(lab, persona, service)
    assert after["syn_steered"] - before["syn_steered"] >= 30, "the kernel steered them"
    assert after["syn_cascaded"] == before["syn_cascaded"]


def by_ipv6(lab):
    def change(document):
        for name, node in document["nodes"].items():
            node["address"] = lab.nodes[name].v6
    return change


def test_steering__each_persona_over_ipv6(lab, cl1):
    with configured(lab, by_ipv6(lab)):
        for persona, service in LISTENERS:
            before = counters(lab)["syn_steered"]
            answered = nodes_that_answer(lab, cl1, lab.gw.v6, persona, service, 30)
            assert set(answered) == members(lab, persona, service), persona
            assert counters(lab)["syn_steered"] - before >= 30, "the kernel steered them"
        client = ask(cl1, lab.gw.v6)
        assert client.steered and client.seen_from == lab.gw.v6.replace(":1::", ":2::")


def test_steering__other_family_is_relayed(lab, cl1):
    client = ask(cl1, lab.gw.v6)  # the nodes are configured by their IPv4 addresses
    assert client.node in RAW_NODES
    assert not client.steered and client.seen_from == "10.77.2.1"


def test_steering__node_sees_gateway_and_reserved_port(lab, cl1):
    client = ask(cl1, lab.gw.v4)
    assert client.seen_from == "10.77.2.1" and client.steered


def test_steering__node_is_a_client_too(lab):
    """Hairpin: a machine of the farm uses a persona port, through the interface it came by."""
    seen = tally(ask(lab.nodes["raw-1"], lab.gw.v4.replace(".1.1", ".2.1")).node for _ in range(30))
    assert set(seen) == set(RAW_NODES)


def test_steering__same_source_port_of_two_clients(lab):
    """A7: after the NAT the gateway alone tells them apart."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(machine, lab.gw.v4, RAW, source_port=port))
                   for port in range(15001, 15011) for machine in lab.clients]
        assert all(client.who() in RAW_NODES and client.steered for client in clients)
        assert len({(c.node, c.seen_port) for c in clients}) == len(clients)
        assert [c.who() for c in clients] == [c.node for c in clients]
        for client in clients:
            client.bye()


@pytest.mark.parametrize("end", ["bye", "reset"])
def test_steering__source_port_used_again_at_once(lab, cl1, end):
    """A8: the addresses of a connection that has just ended make a new one, without a pause."""
    slowest = 0
    for _ in range(50):
        with RawClient(cl1, lab.gw.v4, RAW, source_port=15100) as client:
            assert client.who() in RAW_NODES and client.steered
            getattr(client, end)()
            slowest = max(slowest, client.connect_s)
    assert slowest < 0.5


def test_steering__1000_short_connections(lab, cl1):
    done = at_once(8, lambda _: ask(cl1, lab.gw.v4), range(1000))
    assert len(done) == 1000 and set(tally(c.node for c in done)) == set(RAW_NODES)
    assert all(c.steered for c in done)
    assert max(c.connect_s for c in done) < 0.9, "no SYN had to be sent twice"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_steering__100_transfers_at_once(lab, cl1, direction):
    def transfer(i):
        with RawClient(cl1, lab.gw.v4, RAW, timeout=60) as client:
            assert len(window(i, MEGABYTES_5)) == MEGABYTES_5
            client.who()
            intact = (client.put if direction == "up" else client.get)(i, MEGABYTES_5)
            return intact and client.steered
    assert at_once(100, transfer, range(100)) == [True] * 100


def test_steering__transfers_both_ways_over_ipv6(lab, cl1):
    def transfer(i):
        with RawClient(cl1, lab.gw.v6, RAW, timeout=60) as client:
            client.who()
            return client.put(i, MEGABYTES_5) and client.get(i, MEGABYTES_5) and client.steered
    with configured(lab, by_ipv6(lab)):
        assert at_once(10, transfer, range(10)) == [True] * 10


@contextlib.contextmanager
def without_tx_offload(devices):
    """These (machine, device) finish checksums in software, and segment too, meanwhile."""
    try:
        for machine, device in devices:
            machine.run("ethtool", "-K", device, "tx", "off")
        yield
    finally:
        for machine, device in devices:
            machine.run("ethtool", "-K", device, "tx", "on")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("where", ["gateway", "ends"])
def test_steering__checksums_that_others_verify(lab, cl1, where, family):
    """D7: with the offloads of a veth a wrong checksum is never seen, so they are turned off."""
    devices = {"gateway": [(lab.gw, "lan0"), (lab.gw, "mesh0")],
               "ends": [(cl1, "eth0"), *[(lab.nodes[n], "eth0") for n in RAW_NODES]]}[where]
    address = lab.gw.v4 if family == 4 else lab.gw.v6
    with contextlib.ExitStack() as stack:
        if family == 6:
            stack.enter_context(configured(lab, by_ipv6(lab)))
        stack.enter_context(without_tx_offload(devices))
        for i in range(10):
            with RawClient(cl1, address, RAW, timeout=5) as client:
                assert client.who() in RAW_NODES and client.steered
                assert client.put(i, 200_000) and client.get(i, 200_000)


def test_steering__by_weight(lab, cl1):
    lab.ctl("weight", "raw-1", "300")
    lab.ctl("weight", "raw-3", "200")
    with held(cl1, lab.gw.v4, RAW, 240) as clients:
        share = tally(c.node for c in clients)
    for node, expected in (("raw-1", 120), ("raw-2", 40), ("raw-3", 80)):
        assert abs(share[node] - expected) <= 0.05 * 240, share


def test_steering__weight_zero_takes_none(lab, cl1):
    lab.ctl("weight", "raw-1", "0")
    assert "raw-1" not in tally(ask(cl1, lab.gw.v4).node for _ in range(60))


def test_steering__idle_connections_do_not_fill(lab, cl1):
    """A pool of keep-alive connections that wait for nothing leaves room (contract §3.1)."""
    with held(cl1, lab.gw.v4, KEEP, 3) as clients:  # capacity 1 each: all three nodes are full
        assert set(tally(c.node for c in clients)) == set(RAW_NODES)
        assert all(c.steered for c in clients)
        lab.wait_busy("raw-1", "keep", 0)
        lab.wait_busy("raw-2", "keep", 0)
        lab.wait_busy("raw-3", "keep", 0)
        with held(cl1, lab.gw.v4, KEEP, 3) as more:
            assert all(c.steered for c in more)
        assert [c.who() for c in clients] == [c.node for c in clients]

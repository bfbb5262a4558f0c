# SPDX-License-Identifier: MIT
"""Full nodes, dead nodes, no node at all: the next one takes over, or the client hears of it."""

import concurrent.futures
import threading
import time

import pytest

from labfarm import wait_until
from rig import LONELY, RAW, RAW_NODES, TIGHT, RawClient, ask, counters, held, tally
from labclient import Stream, generate_node

CRUNCHERS = {"cruncher-internal", "cruncher-egpu"}
HALOS = {"halo-1", "halo-2", "halo-3"}


def test_failover__full_persona_cascades(lab, cl1):
    port, streams = lab.port("cruncher"), []
    before = counters(lab)["syn_cascaded"]
    try:
        for _ in range(4):  # two crunchers of two places each
            streams.append(Stream(cl1, lab.gw.v4, port))
        assert tally(s.node for s in streams) == dict.fromkeys(CRUNCHERS, 2)
        for node in CRUNCHERS:
            assert lab.service_status(node)["busy"] == 2
        streams += [Stream(cl1, lab.gw.v4, port) for _ in range(6)]
        assert tally(s.node for s in streams[4:]) == dict.fromkeys(HALOS, 2)
        assert counters(lab)["syn_cascaded"] - before == 6
        streams.pop(0).close()  # a place in the persona itself again
        wait_until(lambda: generate_node(cl1, lab.gw.v4, port) in CRUNCHERS, "a cruncher again")
        assert all(s.token() for s in streams), "the others go on"
    finally:
        for stream in streams:
            stream.close()


def test_failover__full_everywhere_waits_for_room(lab, cl1):
    """The fallback listener holds the connection until a place is free (contract §3.1)."""
    with held(cl1, lab.gw.v4, TIGHT, 1) as clients:
        assert clients[0].steered
        with RawClient(cl1, lab.gw.v4, TIGHT) as second:
            threading.Timer(0.5, clients[0].close).start()
            started = time.monotonic()
            assert second.who() == "raw-1"
            assert not second.steered, "relayed"
            assert time.monotonic() - started > 0.4, "the place was not given twice"


def test_failover__full_everywhere_ends_after_queue_ms(lab, cl1):
    with held(cl1, lab.gw.v4, TIGHT, 1) as clients:
        started = time.monotonic()
        with pytest.raises((OSError, EOFError)):
            ask(cl1, lab.gw.v4, TIGHT)
        assert time.monotonic() - started < 2.0 + 1.5, "queue_ms is 2000"
        assert clients[0].who() == "raw-1", "who was there first is served"


def test_failover__no_node_up_is_refused_fast(lab, cl1):
    server = lab.servers["raw-1", "lonely"]
    server.stop()
    try:
        wait_until(lambda: not lab.service_status("raw-1", "lonely")["up"], "lonely is down")
        started = time.monotonic()
        with pytest.raises((OSError, EOFError)):
            ask(cl1, lab.gw.v4, LONELY)
        assert time.monotonic() - started < 0.5
    finally:
        server.start()
    wait_until(lambda: lab.service_status("raw-1", "lonely")["up"], "lonely is up again")
    assert ask(cl1, lab.gw.v4, LONELY).steered


def test_failover__process_of_a_node_dies(lab, cl1):
    port = lab.port("fat-brain")
    lab.kill_node("halo-2")
    lab.wait_state("halo-2", "down")
    answered = tally(generate_node(cl1, lab.gw.v4, port) for _ in range(60))
    assert set(answered) == {"halo-1", "halo-3"}
    lab.start_node("halo-2")
    wait_until(lab.healthy, "it is up again")
    wait_until(lambda: set(tally(generate_node(cl1, lab.gw.v4, port) for _ in range(60))) == HALOS,
               "all of them take connections", 2)


def test_failover__stream_of_a_dead_process_ends(lab, cl1):
    """The client of a process that died is told so, the other streams do not notice."""
    streams = [Stream(cl1, lab.gw.v4, lab.port("fat-brain")) for _ in range(3)]
    try:
        assert {s.node for s in streams} == HALOS
        lab.kill_node("halo-2")
        for stream in streams:
            if stream.node == "halo-2":
                with pytest.raises((OSError, EOFError)):
                    while True:
                        stream.token()
            else:
                assert stream.token() and stream.token()
    finally:
        for stream in streams:
            stream.close()


def test_failover__machine_of_a_node_falls_silent(lab, cl1):
    with held(cl1, lab.gw.v4, RAW, 6) as clients:
        lab.unplug("raw-3")
        try:
            lab.wait_state("raw-3", "down")
            answered = tally(ask(cl1, lab.gw.v4).node for _ in range(60))
            assert set(answered) == {"raw-1", "raw-2"}
            for client in clients:
                if client.node != "raw-3":
                    assert client.who() == client.node
        finally:
            lab.plug("raw-3")
        wait_until(lab.healthy, "all its services are up")
        # its row follows within the 50 ms that plans are kept apart
        wait_until(lambda: set(tally(ask(cl1, lab.gw.v4).node for _ in range(60))) == set(RAW_NODES),
                   "all of them take connections", 2)


def test_failover__unanswered_syn_goes_to_another_node(lab, cl1):
    """Faster than the probes: the client's own retransmission finds a living node (contract §3.3)."""
    before = counters(lab)["syn_resteered"]
    lab.unplug("raw-3")
    try:
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            started = time.monotonic()
            answered = tally(c.node for c in pool.map(lambda _: ask(cl1, lab.gw.v4), range(12)))
        assert set(answered) == {"raw-1", "raw-2"}
        assert time.monotonic() - started < 3.5, "one retransmission, after a second"
        assert counters(lab)["syn_resteered"] > before
    finally:
        lab.plug("raw-3")
    wait_until(lab.healthy, "all its services are up")


def test_failover__gateway_itself_uses_persona_ports(lab):
    """Sockets of the gateway never meet the datapath, the fallback listener serves them (§3.4)."""
    for address in (lab.gw.v4, lab.gw.v6):
        seen = [ask(lab.gw, address) for _ in range(9)]
        assert set(tally(c.node for c in seen)) <= set(RAW_NODES)
        assert not any(c.steered for c in seen)
    assert generate_node(lab.gw, lab.gw.v4, lab.port("swarm")).startswith("pi-")

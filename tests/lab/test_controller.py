# SPDX-License-Identifier: MIT
"""The datapath belongs to the gateway, not to the process (contract §1)."""

import json
import os
import signal
import threading

import pytest

from labfarm import wait_until
from rig import (RAW, RAW_NODES, RawClient, ask, attached, configured, held, pins, reserved_ports,
                 tally)


def datapath(lab):
    return lab.status()["datapath"]


def established(lab):
    return {name: lab.service_status(name, "raw")["connections"] for name in RAW_NODES}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_controller__end_breaks_nothing_and_start_adopts(lab, cl1, number):
    with held(cl1, lab.gw.v4, RAW, 20) as clients:
        before = len(lab.log("megalithd"))
        status = lab.stop_controller(number)
        if number == signal.SIGTERM:
            assert status == 0
            assert "serving" in lab.log("megalithd")[before:], "one line says what goes on"
        assert lab.ctl("status", check=False).returncode == 3
        assert [c.who() for c in clients] == [c.node for c in clients]
        new = [ask(cl1, lab.gw.v4) for _ in range(60)]
        assert all(c.steered and c.node in RAW_NODES for c in new)
        with RawClient(cl1, lab.gw.v4, RAW) as between:
            between.who()
            lab.start_controller()
            assert datapath(lab)["adopted"] is True
            assert between.who() == between.node
        assert [c.who() for c in clients] == [c.node for c in clients]
        assert all(c.put(3, 300_000) for c in clients)
        counts = tally(c.node for c in clients)
        wait_until(lambda: established(lab) == counts, "the adopted counts are right")
        assert all(ask(cl1, lab.gw.v4).steered for _ in range(20))


def test_controller__restarts_under_streams(lab, cl1):
    """Killed at whatever it happens to do: nothing that runs is lost."""
    with held(cl1, lab.gw.v4, RAW, 10) as clients:
        for i in range(5):
            lab.stop_controller(signal.SIGKILL)
            lab.start_controller(healthy=False)
            assert all(c.who() == c.node for c in clients), f"restart {i}"
            assert ask(cl1, lab.gw.v4).node in RAW_NODES
        wait_until(lab.healthy, "all nodes up")


def test_controller__second_one_refuses(lab):
    """E6: two controllers on one set of pins."""
    second = lab.gw.run(*lab.controller_argv("--no-proxy"), check=False, timeout=20)
    assert second.returncode == 1
    assert str(lab.pid("megalithd")) in second.stderr or "control.sock" in second.stderr
    assert lab.status()["pid"] == lab.pid("megalithd")
    assert ask(lab.clients[0], lab.gw.v4).steered


def test_controller__reload_with_errors_keeps_the_plan(lab, cl1):
    before = lab.status()["plan_version"]
    document = lab.config()
    document["personas"]["cruncher"]["nodes"].append("no-such-node")
    document["probe"]["colour"] = "blue"
    with held(cl1, lab.gw.v4, RAW, 3) as clients:
        lab.write_config(document)
        try:
            refused = lab.ctl("reload", check=False)
        finally:
            lab.write_config()
        assert refused.returncode in (1, 2)
        shown = refused.stdout + refused.stderr
        assert "/personas/cruncher/nodes/2" in shown and "/probe/colour" in shown, "all in one go"
        assert str(lab.config_path) + ":" in shown
        assert lab.status()["plan_version"] == before
        assert [c.who() for c in clients] == [c.node for c in clients]
        assert ask(cl1, lab.gw.v4).steered
    lab.ctl("reload")


def test_controller__node_leaves_the_configuration(lab, cl1):
    """E4: its connections finish there; nobody else ever gets its bytes."""
    def without_raw_2(document):
        del document["nodes"]["raw-2"]
        document["personas"]["raw"]["nodes"].remove("raw-2")

    with held(cl1, lab.gw.v4, RAW, 15) as clients:
        with configured(lab, without_raw_2):
            assert {n["name"] for n in lab.status()["nodes"]} == set(lab.nodes) - {"raw-2"}
            assert set(tally(ask(cl1, lab.gw.v4).node for _ in range(60))) == {"raw-1", "raw-3"}
            for client in clients:
                was = client.node
                assert client.who() == was
        assert set(tally(ask(cl1, lab.gw.v4).node for _ in range(60))) == set(RAW_NODES)
        for client in clients:
            was = client.node
            assert client.who() == was


def relayed(machine, address):
    """A connection is served, and not by the kernel. The proxy may still be starting."""
    try:
        return not ask(machine, address).steered
    except (OSError, EOFError):
        return False


def nothing_left(lab):
    return (pins(lab), attached(lab.gw.namespace), reserved_ports(lab)) == ([], set(), "")


@pytest.fixture(params=["tc", "xdp"])
def stopping(request, bare):
    bare.datapath = request.param
    if request.param == "xdp":
        bare.prepare_xdp()
    bare.write_config()
    return bare


def test_controller__detach_leaves_nothing(stopping):
    lab, client = stopping, stopping.clients[0]
    lab.start_controller()
    assert ask(client, lab.gw.v4).steered
    assert pins(lab) and attached(lab.gw.namespace) and reserved_ports(lab)
    lab.ctl("detach")
    assert nothing_left(lab), (pins(lab), attached(lab.gw.namespace), reserved_ports(lab))
    wait_until(lambda: relayed(client, lab.gw.v4), "the fallback listener serves")
    assert lab.stop_controller() == 0
    assert nothing_left(lab)


def test_controller__detach_on_exit_leaves_nothing(stopping):
    lab = stopping
    lab.start_controller("--detach-on-exit")
    assert ask(lab.clients[0], lab.gw.v4).steered
    assert lab.stop_controller() == 0
    assert nothing_left(lab), (pins(lab), attached(lab.gw.namespace), reserved_ports(lab))
    assert not list(lab.run_dir.glob("*.sock"))


def test_controller__detach_without_a_controller(stopping):
    lab = stopping
    lab.start_controller()
    wait_until(lambda: relayed(lab.gw, lab.gw.v4), "the fallback listener serves")
    (proxy,) = proxies(lab)
    lab.stop_controller(signal.SIGKILL)
    assert pins(lab) and proxies(lab) == [proxy]
    done = lab.ctl("--bpf-dir", lab.bpf_dir, "detach", check=False)
    assert done.returncode == 0, done.stderr
    assert f"megalith-proxy (pid {proxy}) ended" in done.stdout
    assert nothing_left(lab), (pins(lab), attached(lab.gw.namespace), reserved_ports(lab))
    assert proxies(lab) == [] and not list(lab.run_dir.glob("megalith-proxy*"))


def program(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:  # it has just ended
        return ""


def proxies(lab):
    return [p for p in lab.gw.namespace.pids() if "megalith-proxy" in program(p)]


def test_controller__detach_ends_an_adopted_proxy_with_the_controller(stopping):
    """After a detach the proxy is all there is; a stop then means it, whoever had started it."""
    lab = stopping
    lab.start_controller()
    wait_until(lambda: relayed(lab.gw, lab.gw.v4), "the fallback listener serves")
    (proxy,) = proxies(lab)
    assert lab.stop_controller() == 0
    assert proxies(lab) == [proxy]
    lab.start_controller()
    lab.ctl("detach")
    assert relayed(lab.clients[0], lab.gw.v4) and proxies(lab) == [proxy]
    assert lab.stop_controller() == 0
    assert proxies(lab) == [] and not list(lab.run_dir.glob("megalith-proxy*"))
    assert nothing_left(lab)


@pytest.mark.parametrize("option", [["--detach-on-exit"], ["--datapath", "none"]])
def test_controller__proxy_ends_where_no_datapath_stays(bare, option):
    bare.start_controller(*option)
    wait_until(lambda: relayed(bare.gw, bare.gw.v4), "the fallback listener serves")
    assert bare.stop_controller() == 0
    assert proxies(bare) == [] and not list(bare.run_dir.glob("megalith-proxy*"))


def test_controller__proxy_of_another_version_makes_room(bare):
    bare.start_controller()
    wait_until(lambda: relayed(bare.gw, bare.gw.v4), "the fallback listener serves")
    (old,) = proxies(bare)
    bare.stop_controller()
    (bare.run_dir / "megalith-proxy.lock").write_text(f"{old} 0.0.1\n")
    bare.start_controller()
    wait_until(lambda: proxies(bare) and old not in proxies(bare), "another one serves")
    wait_until(lambda: relayed(bare.gw, bare.gw.v4), "the fallback listener serves")
    assert len(proxies(bare)) == 1


def test_controller__left_proxy_ends_for_no_proxy(bare):
    """A unit of its own is going to have the ports."""
    bare.start_controller()
    wait_until(lambda: relayed(bare.gw, bare.gw.v4), "the fallback listener serves")
    bare.stop_controller()
    assert proxies(bare)
    bare.start_controller("--no-proxy")
    wait_until(lambda: not proxies(bare), "the left proxy ends")


def test_controller__adopted_proxy_that_dies_is_started_again(lab):
    wait_until(lambda: relayed(lab.gw, lab.gw.v4), "the fallback listener serves")
    (old,) = proxies(lab)
    for number in (signal.SIGTERM, signal.SIGKILL):
        lab.stop_controller(number)
        lab.start_controller()
        assert proxies(lab) == [old]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: old not in proxies(lab) and relayed(lab.gw, lab.gw.v4), "another one serves")
    assert len(proxies(lab)) == 1


def slow_probes(document):
    document["probe"] = {"interval_ms": 1500, "timeout_ms": 500, "rise": 2, "fall": 2}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_controller__restart_is_not_felt_at_the_fallback(lab, number):
    """The proxy goes on with the last plan until the next controller knows better than that."""
    failed, done = [], threading.Event()

    def hammer():
        while not done.is_set():
            try:
                ask(lab.gw, lab.gw.v4)
            except (OSError, EOFError) as error:
                failed.append(error)
    wait_until(lambda: relayed(lab.gw, lab.gw.v4), "the fallback listener serves")
    (proxy,) = proxies(lab)
    before = len(lab.log("megalithd"))
    thread = threading.Thread(target=hammer)
    # it takes the new controller a while to know who is up
    with configured(lab, slow_probes), held(lab.gw, lab.gw.v4, RAW, 5) as streams:
        thread.start()
        try:
            lab.stop_controller(number)
            if number == signal.SIGTERM:
                (said,) = [line for line in lab.log("megalithd")[before:].splitlines()
                           if "stopping" in line]
                assert f"megalith-proxy (pid {proxy}) goes on" in said
            new = [ask(lab.gw, lab.gw.v4) for _ in range(20)]
            assert not any(c.steered for c in new + streams)
            assert [c.who() for c in streams] == [c.node for c in streams]
            with RawClient(lab.gw, lab.gw.v4, RAW) as between:
                between.who()
                lab.start_controller(healthy=False)
                wait_until(lambda: lab.status()["proxy"]["followers"] == 1, "the proxy follows")
                wait_until(lab.healthy, "all nodes up")
                assert between.who() == between.node
        finally:
            done.set()
            thread.join()
        assert [c.who() for c in streams] == [c.node for c in streams]
        assert all(c.put(3, 300_000) for c in streams)
    assert failed == []
    assert proxies(lab) == [proxy], "the same one"


def test_controller__proxy_has_no_right(lab):
    """It parses clients' bytes, so it has no capability and is not root."""
    wait_until(lambda: proxies(lab), "a megalith-proxy runs")
    for pid in proxies(lab):
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
        assert all(int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"))


def test_controller__dump_reads_like_a_table(lab):
    """bpftool shows names, because the maps are pinned with BTF (contract §6)."""
    directory = lab.bpf_dir / "v1"
    names = {"mg_services", "mg_nodes", "mg_flows", "mg_embryos", "mg_counters", "mg_node_stats"}
    assert names <= {p.name for p in directory.iterdir()}
    shown = lab.gw.run("bpftool", "-j", "map", "dump", "pinned", directory / "mg_services").stdout
    rows = [entry["formatted"] for entry in json.loads(shown)]
    found = {row["value"]["name"] for row in rows}
    assert {f"{p}/{s}" for p, spec in lab.persona_specs.items() for s in spec["listen"]} <= found

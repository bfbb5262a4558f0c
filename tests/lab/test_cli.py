# SPDX-License-Identifier: MIT
"""megalithctl: documents with the keys of contract §4, and exit codes 0, 1, 2, 3."""

import json

import pytest

from labfarm import DEFAULT_PERSONAS
from rig import RAW, held
from labclient import Stream


def document(lab, *argv):
    return json.loads(lab.ctl(*argv, "--json").stdout)


def test_cli__status_json(lab, cl1):
    with held(cl1, lab.gw.v4, RAW, 3):
        status = document(lab, "status")
    assert {"version", "datapath", "nodes", "personas"} <= set(status)
    assert status["datapath"]["mode"] == lab.datapath
    assert len(status["datapath"]["interfaces"]) == 2
    nodes = {n["name"]: n for n in status["nodes"]}
    assert set(nodes) == set(lab.nodes)
    for name, node in nodes.items():
        assert node["address"] == lab.nodes[name].v4
        assert node["state"] == "up" and node["weight"] == 100
        assert set(node["services"]) == set(lab.services(name))
    service = nodes["halo-1"]["services"]["llm"]
    assert {"engine", "port", "up", "connections", "busy", "capacity", "rtt_us", "ttfb_ms",
            "models", "reason"} <= set(service)
    assert (service["engine"], service["port"], service["up"], service["capacity"]) == (
        "ollama", 11434, True, 4)
    assert "llama3:70b" in service["models"]
    assert nodes["raw-1"]["services"]["raw"]["connections"] == 1
    personas = {p["name"]: p for p in status["personas"]}
    for name, spec in DEFAULT_PERSONAS.items():
        assert personas[name]["listen"] == spec["listen"]
        assert personas[name]["nodes"] == spec["nodes"]
        assert personas[name]["cascade"] == spec.get("cascade", [])


@pytest.mark.parametrize("command", ["status", "personas", "nodes", "flows"])
def test_cli__tables_and_documents(lab, cl1, command):
    with held(cl1, lab.gw.v4, RAW, 2):
        text = lab.ctl(command).stdout
        document(lab, command)
    assert "raw" in text and "\x1b" not in text, "no colour when it is not a terminal"


def test_cli__without_a_command_is_status(lab):
    names = [line.split()[0] for line in lab.ctl("nodes").stdout.splitlines() if line.strip()]
    assert set(lab.nodes) <= set(names)
    assert "halo-1" in lab.ctl().stdout


def open_flows(lab, *filters):
    """Without those that have ended and linger."""
    return [f for f in document(lab, "flows", *filters)["flows"] if f["state"] == "open"]


def test_cli__flows_are_filtered(lab, cl1):
    with held(cl1, lab.gw.v4, RAW, 9) as clients:
        with Stream(cl1, lab.gw.v4, lab.port("swarm")) as stream:
            flows = open_flows(lab)
            assert len(flows) == 10
            assert {f["node"] for f in flows} == {c.node for c in clients} | {stream.node}
            mine = open_flows(lab, "--node", "raw-2")
            assert len(mine) == 3 and {f["node"] for f in mine} == {"raw-2"}
            swarm = open_flows(lab, "--persona", "swarm")
            assert [(f["persona"], f["node"]) for f in swarm] == [("swarm", stream.node)]
    seen = {(f["client"].rpartition(":")[0], f["snat"].rpartition(":")[0]) for f in flows}
    assert seen == {(cl1.v4, "10.77.2.1")}


def test_cli__explain_names_taken_and_passed_over(lab, cl1):
    lab.ctl("drain", "cruncher-egpu")
    explained = document(lab, "explain", "cruncher")
    assert {"target", "taken", "candidates"} <= set(explained)
    assert explained["taken"] == {"node": "cruncher-internal", "persona": "cruncher",
                                  "service": "llm"}
    candidates = {c["node"]: c for c in explained["candidates"]}
    assert {"node", "persona", "verdict", "reason", "busy", "capacity", "connections",
            "weight"} <= set(candidates["cruncher-egpu"])
    assert candidates["cruncher-internal"]["verdict"] == "taken"
    assert candidates["cruncher-egpu"]["verdict"] == "passed"
    assert "drain" in candidates["cruncher-egpu"]["reason"]
    assert candidates["halo-1"]["persona"] == "fat-brain"
    lab.ctl("drain", "cruncher-internal")
    assert document(lab, "explain", "cruncher/llm")["taken"]["persona"] == "fat-brain"
    with Stream(cl1, lab.gw.v4, lab.port("cruncher")) as stream:
        assert stream.node.startswith("halo-"), "the kernel does as explained"


def test_cli__done_is_0(lab):
    assert lab.ctl("weight", "halo-1", "70").returncode == 0
    assert lab.node_status("halo-1")["weight"] == 70
    assert lab.ctl("check", lab.config_path).returncode == 0


@pytest.mark.parametrize("argv", [
    ("weight", "nobody", "5"), ("drain", "nobody"), ("undrain", "nobody"), ("explain", "nobody")])
def test_cli__refused_is_1(lab, argv):
    done = lab.ctl(*argv, check=False)
    assert done.returncode == 1
    assert "nobody" in done.stderr and len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize("argv", [
    ("weight", "halo-1", "1001"), ("weight", "halo-1", "-1"), ("weight", "halo-1", "many"),
    ("weight", "halo-1"), ("frobnicate",), ("status", "--colour"), ("drain",)])
def test_cli__usage_is_2(lab, argv):
    done = lab.ctl(*argv, check=False)
    assert done.returncode == 2 and done.stderr.strip()
    assert lab.node_status("halo-1")["weight"] == 100


def test_cli__bad_configuration_is_2(lab):
    bad = lab.dir / "bad.json"
    bad.write_text('{ "nodes": 1 }')
    done = lab.ctl("check", bad, check=False)
    assert done.returncode == 2 and f"{bad}:1: /nodes" in done.stderr + done.stdout


@pytest.mark.parametrize("argv", [("status",), ("weight", "halo-1", "5"), ("reload",), ()])
def test_cli__no_controller_is_3(lab, argv):
    done = lab.gw.run(lab.bin / "megalithctl", "--run-dir", lab.dir / "nobody", *argv, check=False)
    assert done.returncode == 3 and len(done.stderr.strip().splitlines()) == 1

# SPDX-License-Identifier: MIT
"""Drain: no new connection, the running ones finish."""

from rig import RAW, RAW_NODES, ask, held, tally


def test_drain__no_new_connection_and_running_ones_finish(lab, cl1):
    with held(cl1, lab.gw.v4, RAW, 30) as clients:
        running = tally(c.node for c in clients)
        assert running["raw-2"] >= 5
        lab.ctl("drain", "raw-2")
        assert lab.node_status("raw-2")["state"] == "drain"
        new = tally(ask(cl1, lab.gw.v4).node for _ in range(100))
        assert set(new) == {"raw-1", "raw-3"}
        for client in clients:
            was = client.node
            assert client.who() == was
            assert client.put(1, 100_000)
        service = lab.node_status("raw-2")["services"]["raw"]
        assert service["connections"] == running["raw-2"]
    lab.ctl("undrain", "raw-2")
    assert set(tally(ask(cl1, lab.gw.v4).node for _ in range(60))) == set(RAW_NODES)


def test_drain__wait_tells_what_is_left(lab, cl1):
    with held(cl1, lab.gw.v4, RAW, 3):
        left = lab.ctl("drain", "raw-2", "--wait", "1", check=False)
        assert left.returncode == 1
    done = lab.ctl("drain", "raw-2", "--wait", "8", check=False)
    assert done.returncode == 0, done.stderr


def test_drain__survives_the_controller(lab, cl1):
    """Weights and drains are the operator's: they are in the state directory."""
    lab.ctl("drain", "raw-2")
    lab.ctl("weight", "halo-1", "250")
    lab.stop_controller()
    lab.start_controller(healthy=False)
    assert lab.node_status("raw-2")["state"] == "drain"
    assert lab.node_status("halo-1")["weight"] == 250
    assert "raw-2" not in tally(ask(cl1, lab.gw.v4).node for _ in range(50))

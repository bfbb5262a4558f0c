# SPDX-License-Identifier: MIT
"""One lab for each hook, made once; every test finds it healthy, idle and as configured."""

import signal
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import labfarm  # noqa: E402
import rig  # noqa: E402

def _terminated(number, frame):
    raise KeyboardInterrupt  # so that labs are taken down


def pytest_configure(config):
    signal.signal(signal.SIGTERM, _terminated)


def pytest_collection_modifyitems(items):
    missing = labfarm.missing()
    if missing:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="; ".join(missing)))


class TestLab(labfarm.Lab):
    """The farm and the raw nodes; these are threads of the test."""

    __test__ = False

    def start_node(self, name, wait=True):
        if name not in rig.RAW_NODES:
            super().start_node(name, wait)

    def wait_node(self, name):
        if name not in rig.RAW_NODES:
            super().wait_node(name)

    def bring_up(self):
        self.up(controller=False)
        self.servers = {(name, service): rig.RawServer(self.nodes[name], port)
                        for name in rig.RAW_NODES
                        for service, (_, port) in self.services(name).items()}
        self.start_controller()

    def restore(self):
        """Whatever a test left behind is set right."""
        self.write_config()
        for name in self.nodes:
            if name not in rig.RAW_NODES and not self.alive(name):
                self.start_node(name)
        if not self.alive("megalithd"):
            self.start_controller()
        for node in self.status()["nodes"]:
            if node["state"] == "drain":
                self.ctl("undrain", node["name"])
            if node["weight"] != 100:
                self.ctl("weight", node["name"], "100")
        labfarm.wait_until(self.healthy, "all nodes up", 15)
        self.wait_idle()


@pytest.fixture(scope="session", params=["tc", "xdp"])
def whole_lab(request):
    made = TestLab(nodes=rig.NODES, personas=rig.PERSONAS, models=labfarm.DEFAULT_MODELS,
                   datapath=request.param)
    try:
        made.bring_up()
        yield made
    finally:
        made.down()


@pytest.fixture
def lab(whole_lab):
    try:
        whole_lab.restore()
    except labfarm.LabError as error:
        print(f"a test left the lab in a state that does not mend, so it is made anew: {error}")
        whole_lab.down()
        whole_lab.bring_up()
    before = len(whole_lab.log("megalithd"))
    yield whole_lab
    print(f"--- megalithd meanwhile:\n{whole_lab.log('megalithd')[before:][-3000:]}")


@pytest.fixture
def cl1(lab):
    return lab.clients[0]


@pytest.fixture
def bare():
    """A gateway and a client, no nodes, no controller: for starts that fail, and for stopping."""
    made = labfarm.Lab(nodes={"raw-1": {"services": {"raw": rig.RAW_SERVICE}}}, clients=1,
                       personas={"raw": {"nodes": ["raw-1"], "listen": {"raw": rig.RAW}}},
                       simulate=False, datapath="tc")
    made.up(controller=False)
    try:
        made.servers = {("raw-1", "raw"): rig.RawServer(made.nodes["raw-1"], rig.RAW_PORT)}
        yield made
    finally:
        made.down()

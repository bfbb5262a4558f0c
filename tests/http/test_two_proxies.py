# SPDX-License-Identifier: MIT
"""A second megalith-proxy with the same controller, on the same port (SO_REUSEPORT): what one holds
the other knows, and the controller's metrics are the sums."""

import copy
import subprocess
import time
from pathlib import Path

import pytest

from dialect import STREAMS, WHOLES
from farm import DIRECT, NODES, Farm, Process, missing, samples, wait_until
from lab import MODEL, answers, held

pytestmark = pytest.mark.router
PLACES = 4  # of both nodes together
LOAD_MS = 200  # ROUTER_LOAD_MS, and a turn of the clock


class SameUser(Process):
    """Of the user that the first proxy is: only then a port is shared."""

    def __init__(self, farm):
        super().__init__("megalith-proxy-2", [farm.bin / "megalith-proxy", "--control",
                                              farm.run_dir / "control.sock"],
                         farm.log_dir / "megalith-proxy-2")
        self.of = Path(f"/proc/{farm.proxy_pid}").stat()
        self.ids = [int(line.split()[2]) for line in Path(
            f"/proc/{farm.proxy_pid}/status").read_text().splitlines() if line[:4] in ("Uid:", "Gid:")]

    def start(self):
        self.before = 0
        user, group = self.ids
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True, user=user, group=group,
                                          extra_groups=[])


@pytest.fixture(scope="module")
def whole_farm():
    if DIRECT or missing():
        pytest.skip("no router here")
    with Farm(nodes={name: copy.deepcopy(NODES[name]) for name in ("x1", "x2")},
              personas={"lab": {"nodes": ["x1", "x2"], "listen": ["llm"]}},
              aliases={"mine": [{"persona": "lab", "model": MODEL}]},
              router={"queue_ms": 5000}) as made:
        yield made


def followers(farm):
    return farm.status()["proxy"]["followers"]


@pytest.fixture
def second(farm):
    made = SameUser(farm)
    made.start()
    try:
        made.wait_ready()
        farm.wait_for(lambda: followers(farm) == 2, "both follow")
        yield made
        farm.wait_idle()  # its last word is told: what it held before counts for 3 s after its end
    finally:
        code = made.end()
        farm.wait_for(lambda: followers(farm) == 1, "one follows")
    assert code == 0, made.log()


@pytest.fixture
def clients(connect, second):
    """clients(count): connections, `count` to each of the two: their answers' ids tell."""
    def some(count):
        found = {}
        for _ in range(200):
            made = connect()
            proxy = made.ask("GET", "/health").field("x-request-id")[:len("mg-00000000")]
            found.setdefault(proxy, []).append(made)
            if len(found) == 2 and min(map(len, found.values())) >= count:
                return [mine[:count] for mine in found.values()]
        pytest.fail(f"no two proxies share the port: {[len(mine) for mine in found.values()]}")
    return some


def sums(farm, **labels):
    rows = samples(farm.control("GET", "/metrics")).get("megalith_http_requests_total", [])
    return sum(value for row, value in rows if labels.items() <= row.items())


def test_two_proxies__metrics_are_the_sums_also_of_those_that_ended(farm, lab, clients, second):
    dialect = WHOLES[0]
    lab.play(answers(dialect))
    before = sums(farm, model="mine", code="200")
    for mine, times in zip(clients(1), (3, 4)):
        for _ in range(times):
            assert dialect.text(mine[0].ask("POST", dialect.path, dialect.ask("mine"))) == "fine"
    farm.wait_for(lambda: sums(farm, model="mine", code="200") == before + 7, "both have told")
    by_node = sum(sums(farm, model="mine", code="200", node=node) for node in ("x1", "x2"))
    assert by_node == before + 7
    second.end()
    farm.wait_for(lambda: followers(farm) == 1, "one is gone")
    assert sums(farm, model="mine", code="200") == before + 7


def wait_in_queue(farm, count):
    def queued():
        return samples(farm.control("GET", "/metrics"))["megalith_http_queue_length"][0][1]
    farm.wait_for(lambda: queued() == count, f"{count} in the queue, of both")


def wait_told(farm, count):
    """The controller knows of so many requests, and whoever asks it from now on: a proxy does when
    what it knows is older than 150 ms."""
    farm.wait_for(lambda: farm.busy("x1") + farm.busy("x2") == count, f"{count} are counted")
    since = time.monotonic()
    wait_until(lambda: time.monotonic() > since + LOAD_MS / 1000, "it is old", 1)


@pytest.mark.parametrize("split", [(4, 0), (2, 2)])
def test_two_proxies__what_one_holds_is_no_room_for_the_other(farm, lab, clients, split):
    """Each takes the less busy node; when all places are taken, wherever from, one more has to wait, at
    either, until one is free."""
    dialect = STREAMS[0]
    lab.play(held(lab, dialect))
    both, holders = clients(PLACES + 1), []
    for mine, count in zip(both, split):
        for connection in mine[:count]:
            connection.request("POST", dialect.path, dialect.ask(MODEL))
            holders.append(connection)
            wait_told(farm, len(holders))
    assert [farm.busy(node) for node in ("x1", "x2")] == [2, 2], "not the less busy node"
    waiting = [mine[PLACES] for mine in both]
    for connection in waiting:
        connection.request("POST", dialect.path, dialect.ask(MODEL))
    wait_in_queue(farm, 2)
    assert len(lab.requests) == PLACES, "more than the capacity"
    lab.go.set()
    for connection in holders + waiting:
        assert dialect.text(connection.answer().read()) == "fine"
    assert max(node.max_active for node in lab.nodes) <= 2

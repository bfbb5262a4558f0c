# SPDX-License-Identifier: MIT
"""The lab itself: labs coexist, and a lab is taken down whole, also when it was left half made."""

import os
import secrets
import signal
import subprocess

import pytest

from labfarm import LABS, NETNS, REPO, Lab, wait_until

TOOL = str(REPO / "scripts" / "lab")


def traces(name):
    """Whatever is there of a lab."""
    found = [str(path) for path in NETNS.glob(f"{name}-*")]
    with open("/proc/mounts") as mounts:
        found += [line for line in mounts if f"/{name}/" in line or f"/{name}-" in line]
    return found + ([str(LABS / name)] if (LABS / name).exists() else [])


def descendants_of(name):
    """Processes that have the lab's name on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        found += [pid] if any(f"/{name}/".encode() in word for word in words) else []
    return found


@pytest.fixture
def name():
    made = "mg" + secrets.token_hex(2)
    yield made
    Lab.find(made).down()


def tool(*argv):
    return subprocess.run([TOOL, *argv], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("sign", ["lab.json", "switch", "cl1", "pi-3", "ready"])
def test_lab__down_after_kill_in_the_middle(name, sign):
    """kill -9 of `lab up` as soon as a sign of its progress is there."""
    child = subprocess.Popen([TOOL, "up", "--name", name], stdout=subprocess.DEVNULL,
                             start_new_session=True)

    def there():
        log = LABS / name / "log" / "megalithd"
        return child.poll() is not None or {
            "lab.json": (LABS / name / "lab.json").exists(),
            "ready": log.exists() and "ready" in log.read_text(),
        }.get(sign, (NETNS / f"{name}-{sign}").exists())
    wait_until(there, sign, 20)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert traces(name)
    done = tool("down", "--name", name)
    assert done.returncode == 0, done.stderr
    assert traces(name) == [] and descendants_of(name) == []
    assert tool("down", "--name", name).returncode == 0, "twice is fine"


def test_lab__two_side_by_side(name):
    with Lab(clients=1) as other:
        done = tool("up", "--name", name, "--clients", "1")
        assert done.returncode == 0, done.stderr
        assert {name, other.name} <= set(Lab.names())
        assert tool("exec", "--name", name, "gw", "--", "true").returncode == 0
        shown = tool("ctl", "--name", name, "status")
        assert shown.returncode == 0 and "halo-1" in shown.stdout
        assert tool("down", "--name", name).returncode == 0
        assert traces(name) == [] and descendants_of(name) == []
        assert other.healthy()
        listed = {line.split()[0]: line for line in tool("list").stdout.splitlines()}
        assert f"of process {os.getpid()}" in listed[other.name], "`down --all` leaves it alone"

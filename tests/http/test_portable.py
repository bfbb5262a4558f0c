# SPDX-License-Identifier: MIT
"""The whole chain without a kernel datapath, as it runs on a Mac: an ordinary user, one address, high ports."""

import json
import os
import plistlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from farm import free_port

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("MEGALITH_BUILD", "build")
PROGRAMS = ("megalithd", "megalith-proxy", "megalithctl", "megalith-simnode")
NOBODY = 65534
DEADLINE_S = 20


def wait_until(condition, what, log=lambda: ""):
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail(f"no {what} in {DEADLINE_S} s\n{log()}")


class Gateway:
    """Programs, configuration and folders in one place that an ordinary user may enter."""

    def __init__(self, daemon, *arguments):
        if not (BUILD / daemon).exists():
            pytest.fail(f"{BUILD / daemon} is not built: `make http` does it")
        self.arguments = arguments
        self.running = []
        self.dir = Path(tempfile.mkdtemp(prefix="megalith-portable-"))
        self.dir.chmod(0o755)
        self.home = self.dir / "home"
        self.home.mkdir()
        self.as_user = {}
        if os.geteuid() == 0:
            os.chown(self.home, NOBODY, NOBODY)
            self.as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for program in PROGRAMS:
            shutil.copy(BUILD / program, self.dir)
        shutil.copy(BUILD / daemon, self.dir / "megalithd")
        self.node_http, self.node_raw, self.http, self.raw, self.router, self.admin = (
            free_port() for _ in range(6))
        self.config = self.dir / "megalith.json"
        self.write_config()

    def up(self):
        self.start("megalith-simnode", "--name", "mini", "--models", "llama3.2:1b", "--listen",
                   f"127.0.0.1:{self.node_http}")
        self.start("megalith-simnode", "--name", "mini", "--engine", "tcp", "--listen", f"127.0.0.1:{self.node_raw}")
        self.daemon = self.start_daemon()

    def write_config(self):
        services = {"llm": {"engine": "ollama", "port": self.node_http, "capacity": 8},
                    "raw": {"engine": "tcp", "port": self.node_raw, "capacity": 8}}
        self.config.write_text(json.dumps({
            "gateway": {"interfaces": ["lo0"]},
            "router": {"listen": f"127.0.0.1:{self.router}"},
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "probe": {"interval_ms": 200, "timeout_ms": 200},
            "nodes": {"mini": {"address": "127.0.0.1", "services": services}},
            "personas": {"swarm": {"nodes": ["mini"], "listen": {"llm": self.http, "raw": self.raw}}},
        }))

    def start(self, program, *arguments):
        log = open(self.dir / "log", "ab")
        process = subprocess.Popen([self.dir / program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   cwd=self.home, **self.as_user)
        log.close()
        self.running.append(process)
        return process

    def start_daemon(self):
        before = self.log().count("ready datapath=none")
        daemon = self.start("megalithd", "-c", self.config, "--run-dir", self.home / "run", "--state-dir",
                            self.home / "state", *self.arguments)
        wait_until(lambda: self.log().count("ready datapath=none") > before, "ready line of megalithd", self.log)
        wait_until(self.healthy, "node up and proxy with the plan", self.log)
        return daemon

    def log(self):
        path = self.dir / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def ctl(self, *arguments):
        return subprocess.run([self.dir / "megalithctl", "--run-dir", self.home / "run", *arguments],
                              text=True, capture_output=True, timeout=DEADLINE_S, **self.as_user)

    def status(self):
        done = self.ctl("status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def healthy(self):
        status = self.status()
        return status and all(s["up"] for n in status["nodes"] for s in n["services"].values()) and self.listens()

    def listens(self):
        """By the proxy, all of them."""
        for port in (self.http, self.raw):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
        return True

    def proxy(self):
        """Its process, as the lock tells it; 0 when there is none."""
        path = self.home / "run/megalith-proxy.lock"
        words = path.read_text().split() if path.exists() else []
        return int(words[0]) if words else 0

    def echo(self, data):
        """What the node's raw service sends back through the persona's port, behind its name; None: refused."""
        got, wanted = b"", len("mini\n") + len(data)
        try:
            with socket.create_connection(("127.0.0.1", self.raw), DEADLINE_S) as connection:
                connection.sendall(data)
                while len(got) < wanted and (piece := connection.recv(65536)):
                    got += piece
        except (ConnectionError, TimeoutError):
            return None
        return got.removeprefix(b"mini\n")

    def get(self, port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE_S) as answer:
            return answer.read()

    def down(self):
        pids = [p.pid for p in self.running if p.poll() is None] + [self.proxy()]
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        proxy = self.proxy()
        if proxy in pids and alive(proxy):
            os.kill(proxy, signal.SIGKILL)
        shutil.rmtree(self.dir)


def alive(pid):
    """A zombie, which nobody here can bury, is not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], text=True, capture_output=True)
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


# As told by an option, and as on a system that has none: nothing is told there.
@pytest.fixture(scope="module", params=[("megalithd", "--datapath", "none"), ("tests/megalithd-no-datapath",)],
                ids=["datapath-none", "no-datapath"])
def gateway(request):
    made = Gateway(*request.param)
    try:
        made.up()
        yield made
    finally:
        made.down()


def test_serves_without_a_datapath(gateway):
    status = gateway.status()
    assert status["datapath"]["mode"] == "none"
    assert status["datapath"]["interfaces"] == []
    assert [n["state"] for n in status["nodes"]] == ["up"]
    told = gateway.ctl()
    assert told.returncode == 0 and "swarm" in told.stdout and "mini" in told.stdout


def models(tags):
    return {m["name"] for m in json.loads(tags)["models"]}


def test_relays_bytes_through_a_persona_port(gateway):
    sent = os.urandom(100_000)
    assert gateway.echo(sent) == sent
    assert models(gateway.get(gateway.http, "/api/tags")) == {"llama3.2:1b"}


def test_the_proxy_is_the_same_ordinary_user(gateway):
    def user(pid):
        return subprocess.run(["ps", "-o", "uid=", "-p", str(pid)], text=True, capture_output=True).stdout.strip()

    assert user(gateway.proxy()) == user(gateway.daemon.pid) == str(gateway.as_user.get("user", os.getuid()))
    assert user(gateway.proxy()) != "0"


def test_a_drained_node_takes_no_connection(gateway):
    assert gateway.ctl("drain", "mini").returncode == 0
    try:
        assert gateway.echo(b"hello") is None
    finally:
        assert gateway.ctl("undrain", "mini").returncode == 0
    assert gateway.echo(b"hello") == b"hello"


def test_goes_on_without_its_controller(gateway):
    """Killed: the proxy serves with the last plan, and the next controller finds it."""
    proxy = gateway.proxy()
    gateway.daemon.kill()
    gateway.daemon.wait()
    assert gateway.echo(b"alone") == b"alone"
    assert gateway.ctl().returncode == 3
    gateway.daemon = gateway.start_daemon()
    wait_until(lambda: f"megalith-proxy (pid {proxy}) of an earlier controller goes on" in gateway.log(),
               "word of the proxy", gateway.log)
    assert gateway.echo(b"together") == b"together"
    assert gateway.proxy() == proxy


def test_ends_with_its_proxy(gateway):
    proxy = gateway.proxy()
    gateway.daemon.terminate()
    assert gateway.daemon.wait(DEADLINE_S) == 0
    wait_until(lambda: not alive(proxy), "end of the proxy", gateway.log)
    assert not gateway.listens()
    gateway.daemon = gateway.start_daemon()


def test_a_datapath_by_name_needs_a_system_that_has_one(tmp_path):
    config = tmp_path / "megalith.json"
    config.write_text('{"gateway": {"interfaces": ["lo0"]}, "nodes": {"a": {"address": "127.0.0.1", "services": {"llm": "ollama"}}},'
                      ' "personas": {"a": {"nodes": ["a"], "listen": {"llm": 11501}}}}')
    done = subprocess.run([BUILD / "tests/megalithd-no-datapath", "-c", config, "--run-dir", tmp_path / "run", "--state-dir",
                           tmp_path / "state", "--no-proxy", "--datapath", "tc"], text=True, capture_output=True,
                          timeout=DEADLINE_S)
    assert done.returncode == 1
    assert "this system has no kernel datapath" in done.stderr and '"none"' in done.stderr


# --- what is installed on a Mac ---

def test_launchd_gets_a_service_of_the_user_who_installs(tmp_path):
    user = subprocess.run(["id", "-un"], text=True, capture_output=True, check=True).stdout.strip()
    subprocess.run(["make", "-s", "-C", ROOT, "install-launchd", "OS=Darwin", "PREFIX=/opt/homebrew",
                    f"DESTDIR={tmp_path}", f"LAUNCHD_USER={user}"], check=True)
    source = ROOT / "config/launchd/local.megalith.megalithd.plist"
    installed = tmp_path / "opt/homebrew/share/megalith" / source.name
    assert plistlib.loads(source.read_bytes())["Label"] == source.stem
    service = plistlib.loads(installed.read_bytes())
    assert service["Label"] == source.stem
    assert service["UserName"] == user
    assert service["ProgramArguments"] == ["/opt/homebrew/sbin/megalithd", "--config",
                                           "/opt/homebrew/etc/megalith/megalith.json", "--datapath", "none"]
    assert service["RunAtLoad"] is True and service["KeepAlive"] is True
    for folder in (Path(service["StandardErrorPath"]).parent, "/opt/homebrew/var/run/megalith", "/opt/homebrew/var/lib/megalith"):
        assert (tmp_path / Path(folder).relative_to("/")).is_dir()
    # the options are those of our program
    arguments = [BUILD / "megalithd", *service["ProgramArguments"][1:], "--help"]
    assert subprocess.run(arguments, capture_output=True).returncode == 0

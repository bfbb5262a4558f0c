# SPDX-License-Identifier: MIT
"""The proxies that the HTTP bench compares: how each is configured, started, pinned, weighed and stopped.

Each is tuned for what it is compared in: no delay of small writes, connections kept on both sides, one worker.
"""
import contextlib
import grp
import http.client
import json
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import time

READY_S = 10
STOP_S = 10
FIRST_PORT = 18000  # below the range that the kernel gives to clients
DESCRIPTORS = 20000

HAPROXY = """
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    option http-no-delay
    option abortonclose
    option http-keep-alive
    http-reuse always
frontend in
    bind 127.0.0.1:{port} backlog 4096
    default_backend node
backend node
    server n1 127.0.0.1:{node_port}
"""

NGINX = """
worker_processes 1;
user {user} {group};
pid {dir}/nginx.pid;
error_log {dir}/nginx.err;
daemon off;
events {{
    worker_connections 16000;
}}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
    client_max_body_size 64m;
    keepalive_requests 100000000;
    upstream node {{
        server 127.0.0.1:{node_port};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://node;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


def raise_descriptors():
    """Of this process and what it starts: a proxy of 5,000 streams has 10,000 and more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < DESCRIPTORS:
        with contextlib.suppress(ValueError, OSError):  # not even root may, in some places
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


class PeerError(Exception):
    pass


class Ports:
    """Free ports of loopback, each given once."""

    def __init__(self):
        self.next = FIRST_PORT

    def take(self):
        while True:
            self.next += 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self.next))
                    return self.next
                except OSError:
                    continue


def tree(root):
    """(pid, name) of a process and all below it."""
    parents, names = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                text = stat.read()
        except OSError:
            continue
        names[int(pid)] = text[text.index("(") + 1:text.rindex(")")]
        parents[int(pid)] = int(text[text.rindex(")") + 2:].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [(pid, names.get(pid, "")) for pid in found]


class Peer:
    """A proxy in front of the node. `process` names which of its processes count; None: all."""

    name = ""
    process = None

    def __init__(self, folder, build, port, node_port):
        self.dir = os.path.join(folder, self.name)
        self.build, self.port, self.node_port = build, port, node_port
        self.child = None
        self.counted = []

    def command(self):
        raise NotImplementedError

    def available(self):
        """Why it cannot be measured, or None."""
        return None

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self):
        os.makedirs(self.dir, exist_ok=True)
        command = self.command()
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_ready()
        self.counted = [pid for pid, name in tree(self.child.pid) if self.process in (None, name)]

    def wait_ready(self):
        deadline = time.monotonic() + READY_S
        while not self.answers():
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PeerError(f"{self.name} does not answer on port {self.port}: {self.last_words()}")
            time.sleep(0.05)

    def answers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "hello"}]})
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def last_words(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as log:
            return (log.read().strip().splitlines() or ["it says nothing"])[-1]

    def stop(self):
        if self.child is None:
            return
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                for pid, _ in tree(self.child.pid):
                    os.kill(pid, signal.SIGKILL)
                self.child.wait()
        self.child = None

    def alive(self):
        """Also when a parent has already put another in its place."""
        return bool(self.counted) and all(os.path.exists(f"/proc/{pid}/task") for pid in self.counted)

    def pin(self, cpu):
        for pid in self.counted:
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), {cpu})

    def memory_kib(self, kind="Pss"):
        """Of all its processes: "Pss" divides what they share with others, "Rss" counts all that is resident."""
        total = 0
        for pid in self.counted:
            with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith(f"{kind}:"))
        return total

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.counted)


class Relay(Peer):
    name = "relay"

    def command(self):
        return [f"{self.build}/tests/bare_relay", str(self.port), str(self.node_port)]


class Haproxy(Peer):
    name = "haproxy"

    def available(self):
        return None if shutil.which("haproxy", path=SEARCH) else "haproxy is not installed"

    def command(self):
        config = self.write("haproxy.cfg", HAPROXY.format(port=self.port, node_port=self.node_port))
        return [shutil.which("haproxy", path=SEARCH), "-db", "-f", config]


class Nginx(Peer):
    name = "nginx"

    def available(self):
        return None if shutil.which("nginx", path=SEARCH) else "nginx is not installed"

    def command(self):
        config = self.write("nginx.conf", NGINX.format(
            port=self.port, node_port=self.node_port, dir=self.dir, user=pwd.getpwuid(os.geteuid()).pw_name,
            group=grp.getgrgid(os.getegid()).gr_name))
        return [shutil.which("nginx", path=SEARCH), "-e", f"{self.dir}/nginx.err", "-c", config]


class Megalith(Peer):
    """The router, started by a controller without a datapath; what counts is megalith-proxy alone."""

    name = "megalith"
    process = "megalith-proxy"

    def __init__(self, folder, build, port, node_port, persona_port):
        super().__init__(folder, build, port, node_port)
        self.persona_port = persona_port

    def command(self):
        for name in ("run", "state"):
            os.makedirs(os.path.join(self.dir, name), exist_ok=True)
        config = self.write("megalith.json", json.dumps({
            "gateway": {"interfaces": ["lo"], "datapath": "none"},
            "router": {"listen": f"127.0.0.1:{self.port}"},
            "admin": {"listen": f"127.0.0.1:{self.persona_port + 1}"},
            "nodes": {"n1": {"address": "127.0.0.1", "services": {
                "llm": {"engine": "openai", "port": self.node_port, "capacity": 0}}}},
            "personas": {"p": {"nodes": ["n1"], "listen": {"llm": self.persona_port}}},
            "models": {"bench": [{"persona": "p", "model": "m"}]},
        }, indent=1))
        return [f"{self.build}/megalithd", "-c", config, "--run-dir", f"{self.dir}/run", "--state-dir", f"{self.dir}/state",
                "--datapath", "none", "--detach-on-exit"]  # else the proxy outlives it


SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def all_peers(folder, build, ports, node_port):
    peers = [kind(folder, build, ports.take(), node_port) for kind in (Relay, Haproxy, Nginx)]
    port, persona_port, _ = ports.take(), ports.take(), ports.take()
    return peers + [Megalith(folder, build, port, node_port, persona_port)]

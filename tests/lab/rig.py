# SPDX-License-Identifier: MIT
"""What the lab tests have in common: the test farm, its raw TCP nodes, and clients.

The raw nodes are served by threads of this process, through listeners in the nodes' namespaces.
They tell their name and from which address a connection reached them, so a test knows which node
it got, and whether the kernel steered it (SNAT port) or the fallback listener relayed it.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
import time

from labfarm import DEFAULT_NODES, DEFAULT_PERSONAS, wait_until

SNAT_PORTS = range(20000, 32768)  # contract §2, default
RAW_NODES = ["raw-1", "raw-2", "raw-3"]
RAW, KEEP, TIGHT, LONELY = 11600, 11601, 11602, 11603  # persona ports
RAW_PORT, KEEP_PORT, TIGHT_PORT, LONELY_PORT = 9000, 9001, 9002, 9003  # on the nodes

# raw: no limit; keep: one busy connection each, short memory; tight: one place in all, nowhere
# else to go; lonely: a persona of one node, for its death
RAW_SERVICE = {"engine": "tcp", "port": RAW_PORT, "idle_ms": 30000}
KEEP_SERVICE = {"engine": "tcp", "port": KEEP_PORT, "capacity": 1, "idle_ms": 300}
TIGHT_SERVICE = {"engine": "tcp", "port": TIGHT_PORT, "capacity": 1, "idle_ms": 30000}
LONELY_SERVICE = {"engine": "tcp", "port": LONELY_PORT}

NODES = {
    **DEFAULT_NODES,
    "raw-1": {"services": {"raw": RAW_SERVICE, "keep": KEEP_SERVICE, "tight": TIGHT_SERVICE,
                           "lonely": LONELY_SERVICE}},
    "raw-2": {"services": {"raw": RAW_SERVICE, "keep": KEEP_SERVICE}},
    "raw-3": {"services": {"raw": RAW_SERVICE, "keep": KEEP_SERVICE}},
}
PERSONAS = {
    **DEFAULT_PERSONAS,
    "raw": {"nodes": RAW_NODES, "listen": {"raw": RAW, "keep": KEEP}},
    "tight": {"nodes": ["raw-1"], "listen": {"tight": TIGHT, "lonely": LONELY}},
}

BLOCK = os.urandom(5 * 1024 * 1024 + 128 * 4096)  # transfer i is a window of it, from 4096 * i
CHUNK = 256 * 1024


def window(i, size):
    return memoryview(BLOCK)[4096 * i:4096 * i + size]


class Line:
    """Lines and counted bytes of a socket."""

    def __init__(self, sock):
        self.sock = sock
        self.rest = b""

    def line(self):
        while b"\n" not in self.rest:
            data = self.sock.recv(CHUNK)
            if not data:
                raise EOFError("connection ended" + (" in a line" if self.rest else ""))
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def digest(self, size):
        """SHA-256 of the next `size` bytes."""
        sha = hashlib.sha256(self.rest[:size])
        left = size - min(size, len(self.rest))
        self.rest = self.rest[size:]
        buffer = bytearray(CHUNK)
        while left:
            n = self.sock.recv_into(buffer, min(left, CHUNK))
            if not n:
                raise EOFError(f"connection ended {left} bytes early")
            sha.update(memoryview(buffer)[:n])
            left -= n
        return sha.hexdigest()


class RawServer:
    """One port of a raw node. Commands: who | put SIZE | get SIZE WINDOW | bye"""

    def __init__(self, node, port):
        self.node, self.port = node, port
        self.accepted = 0  # connections so far, probes too
        self.lock = threading.Lock()
        self.open = set()
        self.listener = None
        self.start()

    def start(self):
        self.listener = self.node.listen(self.port)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            with self.lock:
                self.accepted += 1
                self.open.add(sock)
            threading.Thread(target=self._serve, args=(sock, peer), daemon=True).start()

    def _serve(self, sock, peer):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, EOFError, ValueError):
            stream = Line(sock)
            while True:
                self._answer(stream, peer, stream.line().split())
        with self.lock:
            self.open.discard(sock)
        sock.close()

    def _answer(self, stream, peer, words):
        send = stream.sock.sendall
        if words[0] == "who":
            send(f"{self.node.name} {peer[0].removeprefix('::ffff:')} {peer[1]}\n".encode())
        elif words[0] == "put":
            send(f"{stream.digest(int(words[1]))}\n".encode())
        elif words[0] == "get":
            data = window(int(words[2]), int(words[1]))
            send(data)
            send(f"{hashlib.sha256(data).hexdigest()}\n".encode())
        elif words[0] == "bye":
            raise EOFError

    def stop(self):
        """As a process that is killed: the listener is gone, connections are reset."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for sock in self.open:
                reset(sock)


def reset(sock):
    """Closes with RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)  # wakes a thread that reads
    sock.close()


class RawClient:
    """A connection to a raw persona port."""

    def __init__(self, machine, address, port, timeout=10.0, source_port=0):
        started = time.monotonic()
        self.sock = machine.connect(address, port, timeout, source_port)
        self.connect_s = time.monotonic() - started
        self.stream = Line(self.sock)
        self.node = self.seen_from = self.seen_port = None

    def who(self):
        """One round trip. Node's name."""
        self.sock.sendall(b"who\n")
        self.node, self.seen_from, port = self.stream.line().split()
        self.seen_port = int(port)
        return self.node

    @property
    def steered(self):
        """By the kernel, not relayed."""
        return self.seen_port in SNAT_PORTS

    def put(self, i, size):
        data = window(i, size)
        self.sock.sendall(f"put {size}\n".encode())
        self.sock.sendall(data)
        return self.stream.line() == hashlib.sha256(data).hexdigest()

    def get(self, i, size):
        self.sock.sendall(f"get {size} {i}\n".encode())
        digest = self.stream.digest(size)
        return digest == self.stream.line() == hashlib.sha256(window(i, size)).hexdigest()

    def bye(self):
        """The node closes first, so the node has the TIME_WAIT."""
        self.sock.sendall(b"bye\n")
        if self.sock.recv(1):
            raise ValueError("bytes after the end")

    def reset(self):
        reset(self.sock)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ask(machine, address, port=RAW, **options):
    """One short connection: connects, asks who, closes. The closed client, for its findings."""
    with RawClient(machine, address, port, **options) as client:
        client.who()
    return client


@contextlib.contextmanager
def held(machine, address, port, count):
    """`count` connections that have had a round trip each, open meanwhile."""
    clients = []
    try:
        for _ in range(count):
            clients.append(RawClient(machine, address, port))
            clients[-1].who()
        yield clients
    finally:
        for client in clients:
            client.close()


def tally(names):
    counts = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def at_once(threads, function, items):
    """function(item) for each, so many at a time; results in order, the first exception raised."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


@contextlib.contextmanager
def configured(lab, change):
    """The lab runs by its configuration as `change(document)` leaves it, meanwhile."""
    document = lab.config()
    change(document)
    lab.write_config(document)
    lab.ctl("reload")
    try:
        wait_until(lab.healthy, "all nodes up after reload")
        yield document
    finally:
        lab.write_config()
        lab.ctl("reload")
        wait_until(lab.healthy, "all nodes up after the second reload")


def counters(lab):
    return lab.status()["counters"]


def attached(space):
    """What hangs on the interfaces of a namespace: (device, "xdp" or "tc")."""
    links = json.loads(space.run("ip", "-json", "-details", "link", "show").stdout)
    found = {(link["ifname"], "xdp") for link in links if link.get("xdp", {}).get("mode")
             or link.get("xdp", {}).get("attached")}
    for link in links:
        for hook in ("ingress", "egress"):
            shown = space.run("tc", "filter", "show", "dev", link["ifname"], hook, check=False)
            if shown.stdout.strip():
                found.add((link["ifname"], "tc"))
    for line in space.run("tc", "qdisc", "show").stdout.splitlines():
        if "clsact" in line:
            found.add((line.split("dev ")[1].split()[0], "clsact"))
    return found


def pins(lab):
    """Whatever megalithd has pinned."""
    return sorted(str(path.relative_to(lab.bpf_dir)) for path in lab.bpf_dir.rglob("*"))


def reserved_ports(lab):
    with lab.gw.namespace.entered():
        with open("/proc/sys/net/ipv4/ip_local_reserved_ports") as file:
            return file.read().strip()


# SPDX-License-Identifier: MIT
"""A peer of the control socket that sends garbage, half a request, or 1 GB changes nothing."""

import contextlib
import os
import re
import socket
import threading
import time

from labfarm import wait_until
from rig import RAW, ask


def peer(lab):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(lab.run_dir / "control.sock"))
    return sock


def resident_kb(lab):
    with open(f"/proc/{lab.pid('megalithd')}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def undisturbed(lab, since):
    """It answers at once, probes go on, it has not grown, and connections are steered."""
    started = time.monotonic()
    assert lab.status()["pid"] == lab.pid("megalithd")
    assert time.monotonic() - started < 2
    probes = lab.servers["raw-1", "raw"].accepted
    wait_until(lambda: lab.servers["raw-1", "raw"].accepted >= probes + 2, "probes go on", 5)
    assert lab.healthy()
    assert resident_kb(lab) - since < 8 * 1024
    assert ask(lab.clients[0], lab.gw.v4, RAW).steered


def flood(sock, head, size):
    """Sends until all is sent or the other side has had enough; bytes that were taken."""
    block, sent = b"x" * (1 << 20), 0
    with contextlib.suppress(OSError):
        sock.sendall(head)
        while sent < size:
            sent += sock.send(block[:size - sent])
    return sent


def test_socket__garbage(lab):
    before = resident_kb(lab)
    for _ in range(50):
        with peer(lab) as sock, contextlib.suppress(OSError):
            sock.sendall(os.urandom(4096))
            sock.recv(4096)
    undisturbed(lab, before)


def test_socket__half_requests_held_open(lab):
    before = resident_kb(lab)
    halves = [b"", b"G", b"GET /v1/status HT", b"GET /v1/status HTTP/1.1\r\nHost: x\r\n",
              b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"half\":"]
    with contextlib.ExitStack() as stack:
        for half in halves * 20:
            stack.enter_context(peer(lab)).sendall(half)
        undisturbed(lab, before)
    undisturbed(lab, before)


def test_socket__one_gigabyte(lab):
    """As a header without end, and as an announced body: refused long before it is read."""
    gigabyte, before = 1 << 30, resident_kb(lab)
    post = b"POST /v1/reload HTTP/1.1\r\nHost: x\r\n"
    heads = [b"GET /", post + b"Content-Length: %d\r\n\r\n" % gigabyte,
             post + b"Transfer-Encoding: chunked\r\n\r\n40000000\r\n"]
    for head in heads:
        with peer(lab) as sock:
            writer = threading.Thread(target=flood, args=(sock, head, gigabyte))
            writer.start()
            undisturbed(lab, before)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            writer.join(10)
            assert not writer.is_alive()
    undisturbed(lab, before)


def test_socket__answer_that_nobody_reads(lab):
    """100 followers of the plan, and none of them reads."""
    before = resident_kb(lab)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(peer(lab))
            sock.sendall(b"GET /v1/plan?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        undisturbed(lab, before)


def test_socket__bad_values_are_refused(lab):
    def request(method, target, body=b""):
        with peer(lab) as sock:
            sock.sendall(b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                         b"Content-Length: %d\r\n\r\n%s" % (method, target, len(body), body))
            answer = b""
            while data := sock.recv(65536):
                answer += data
            return int(answer.split()[1])

    version = lab.status()["plan_version"]
    assert request(b"POST", b"/v1/nodes/halo-1/weight", b'{"weight": 1001}') == 400
    assert request(b"POST", b"/v1/nodes/halo-1/weight", b'{"weight": "7"}') == 400
    assert request(b"POST", b"/v1/nodes/halo-1/weight", b'{"weight": 7') == 400
    assert request(b"POST", b"/v1/nodes/nobody/weight", b'{"weight": 7}') == 404
    assert request(b"DELETE", b"/v1/status") == 405
    assert request(b"GET", b"/v1/nothing") == 404
    assert request(b"GET", b"/v1/explain?target=nobody") == 404
    assert lab.status()["plan_version"] == version
    assert lab.node_status("halo-1")["weight"] == 100

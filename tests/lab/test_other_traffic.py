# SPDX-License-Identifier: MIT
"""What is not addressed to a persona port, nor a reply to it, is untouched (contract §3.5, C10)."""

import os
import socket
import struct
import threading

from rig import RAW, Line, at_once, held


def sum16(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


def ping(machine, address):
    """One ICMP echo, IPv4 or IPv6. True when the answer came."""
    v6 = ":" in address
    with machine.namespace.entered():
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW,
                             socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    with sock:
        sock.settimeout(2)
        kind, answer = (128, 129) if v6 else (8, 0)
        body = struct.pack("!HH", os.getpid() & 0xffff, 1) + b"megalith"
        check = 0 if v6 else sum16(struct.pack("!BBH", kind, 0, 0) + body)
        sock.sendto(struct.pack("!BBH", kind, 0, check) + body, (address, 0))
        while True:
            packet = sock.recv(1500)
            packet = packet if v6 else packet[(packet[0] & 15) * 4:]
            if packet[0] == answer and packet[4:] == body:
                return True


def echo_server(machine, port):
    """Listener that answers the first line of each connection; the caller closes it."""
    listener = machine.listen(port)

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.sendall(f"echo {Line(sock).line()}\n".encode())
    threading.Thread(target=serve, daemon=True).start()
    return listener


def echoed(machine, address, port, word, source_port=0):
    with machine.connect(address, port, source_port=source_port) as sock:
        sock.sendall(f"{word}\n".encode())
        return Line(sock).line() == f"echo {word}"


def test_other__ping_reaches_the_gateway(lab, cl1):
    for address in (lab.gw.v4, lab.gw.v6):
        assert ping(cl1, address)


def test_other__login_port_of_the_gateway(lab, cl1):
    """A server of the gateway's own, while steered connections run beside it."""
    listener = echo_server(lab.gw, 2222)
    try:
        with held(cl1, lab.gw.v4, RAW, 5):
            for address in (lab.gw.v4, lab.gw.v6):
                assert all(echoed(cl1, address, 2222, f"w{i}") for i in range(20))
            # the client's port may be any, one of the SNAT range too
            assert echoed(cl1, lab.gw.v4, 2222, "low", source_port=20001)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_other__gateway_to_node(lab):
    """The gateway's own connections to a port that it also steers to (A6)."""
    def direct(_):
        with lab.gw.connect(lab.nodes["raw-1"].v4, 9000) as sock:
            sock.sendall(b"who\n")
            return Line(sock).line().split()
    cl1 = lab.clients[0]
    with held(cl1, lab.gw.v4, RAW, 30) as clients:
        seen = at_once(8, direct, range(200))
        assert all(s[0] == "raw-1" and s[1] == "10.77.2.1" for s in seen)
        assert not any(20000 <= int(s[2]) <= 32767 for s in seen), "the SNAT range is reserved"
        assert [c.who() for c in clients] == [c.node for c in clients]


def test_other__udp_on_a_persona_port(lab, cl1):
    server = lab.gw.namespace.socket(kind=socket.SOCK_DGRAM)
    client = cl1.namespace.socket(kind=socket.SOCK_DGRAM)
    with server, client:
        server.bind(("0.0.0.0", RAW))
        server.settimeout(2)
        client.sendto(b"hello", (lab.gw.v4, RAW))
        assert server.recv(100) == b"hello"


def test_other__closed_port_is_refused(lab, cl1):
    for address in (lab.gw.v4, lab.gw.v6):
        try:
            cl1.connect(address, 11999, timeout=2).close()
        except ConnectionRefusedError:
            continue
        raise AssertionError("somebody listens there")


def tcp_segment(source, target, sport, dport, flags, seq=1000, ack=2000):
    """An IPv4 TCP header without options, with its checksum."""
    def header(check):
        return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 1024, check, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, 20)
    return header(sum16(pseudo + header(0)))


def test_other__unknown_segment_is_reset(lab, cl1):
    """B10: an ACK of a connection that nobody knows is answered by a reset, never by silence."""
    with cl1.namespace.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with sock:
        sock.settimeout(2)
        sock.sendto(tcp_segment(cl1.v4, lab.gw.v4, 45678, RAW, 0x10), (lab.gw.v4, 0))
        while True:
            packet = sock.recv(1500)
            sport, dport, seq, _, _, flags = struct.unpack_from("!HHIIBB", packet,
                                                                (packet[0] & 15) * 4)
            if (sport, dport) == (RAW, 45678):
                break
    assert flags & 0x04 and seq == 2000

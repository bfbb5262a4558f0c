# SPDX-License-Identifier: MIT
"""Network namespaces and what is done in them: commands, sockets, sysctls, an XDP program.

`ip netns exec` is never used: it remounts /sys, and the pins of the BPF file system vanish inside.
"""

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from pathlib import Path

NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """One line for the user."""


def wait_until(condition, what, seconds=10.0, interval=0.02):
    """Returns the first true value of condition(); LabError after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"not within {seconds:g} s: {what}")
        time.sleep(interval)


def run(*argv, text=None, check=True):
    done = subprocess.run([str(a) for a in argv], input=text, capture_output=True, text=True)
    if check and done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise LabError(f"{' '.join(str(a) for a in argv)}: {last[0]}")
    return done


def start_time(pid):
    """When a process began, in clock ticks since boot: a pid alone may belong to another by now."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def bpf(command, attributes):
    """The system call; `attributes` is the union bpf_attr of the command."""
    number = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[os.uname().machine]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    done = LIBC.syscall(number, command, buffer, len(attributes))
    if done < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return done


def attach_xdp_pass(device, pin):
    """An XDP program that lets everything pass, for as long as the pin is there."""
    prog_load, obj_pin, link_create, type_xdp, attach_xdp, mode_native = 5, 6, 28, 6, 37, 4
    code = struct.pack("=BBhiBBhi", 0xb7, 0, 0, 2, 0x95, 0, 0, 0)  # r0 = XDP_PASS; exit
    code, gpl, path = (ctypes.create_string_buffer(b) for b in (code, b"GPL", os.fsencode(pin)))
    program = bpf(prog_load, struct.pack("=IIQQ", type_xdp, 2, ctypes.addressof(code),
                                         ctypes.addressof(gpl)))
    link = bpf(link_create, struct.pack("=IIII", program, socket.if_nametoindex(device), attach_xdp,
                                        mode_native))
    bpf(obj_pin, struct.pack("=QI", ctypes.addressof(path), link))
    os.close(link)
    os.close(program)


class Namespace:
    """A network namespace with a name, and sockets inside it."""

    def __init__(self, name):
        self.name = name
        self.path = NETNS / name

    def exists(self):
        return self.path.exists()

    @contextlib.contextmanager
    def entered(self):
        """This thread is inside meanwhile; sockets opened there stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            there = os.open(self.path, os.O_RDONLY)
            try:
                self._setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                self._setns(home)
        finally:
            os.close(home)

    @staticmethod
    def _setns(fd):
        if LIBC.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def sysctl(self, **values):
        with self.entered():
            for key, value in values.items():
                path = Path("/proc/sys") / key.replace("__", "/")
                if path.exists():
                    path.write_text(str(value))

    def ip(self, *lines):
        """Lines of `ip`, in one process."""
        run("nsenter", f"--net={self.path}", "ip", "-batch", "-", text="\n".join(lines) + "\n")

    def argv(self, *argv):
        return ["nsenter", f"--net={self.path}", "--", *[str(a) for a in argv]]

    def run(self, *argv, check=True, text=None, timeout=60):
        done = subprocess.run(self.argv(*argv), capture_output=True, text=True, input=text,
                              timeout=timeout)
        if check and done.returncode != 0:
            raise LabError(f"in {self.name}: {' '.join(map(str, argv))}: {done.stderr.strip()}")
        return done

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        with self.entered():
            return socket.socket(family, kind)

    def connect(self, address, port, timeout=10.0, source_port=0):
        """A TCP connection made from in here."""
        sock = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            sock.settimeout(timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("::" if ":" in address else "0.0.0.0", source_port))
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def listen(self, port, backlog=1024):
        """A TCP listener in here, on all addresses of both families."""
        sock = self.socket(socket.AF_INET6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        sock.listen(backlog)
        return sock

    def pids(self):
        done = run("ip", "netns", "pids", self.name, check=False)
        return [int(word) for word in done.stdout.split()]


class Machine:
    """A client, or a node: a namespace with one interface."""

    def __init__(self, name, namespace, v4, v6):
        self.name, self.namespace, self.v4, self.v6 = name, namespace, v4, v6
        self.connect = namespace.connect
        self.listen = namespace.listen
        self.run = namespace.run

# SPDX-License-Identifier: MIT
"""The official npm clients, driven by clients/*.mjs: one process of node for a whole run of tests."""

import itertools
import json
import os
import queue
import subprocess
import threading
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).resolve().parent / "clients"
NPM = REPO / "build" / "npm"
WAIT_S = 30


def install():
    """Why the clients cannot be had; None when they are there."""
    done = subprocess.run([REPO / "scripts" / "npm-deps"], capture_output=True, text=True,
                          timeout=240, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return None
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1].removeprefix("skip: ")


class Failed(Exception):
    """The call threw: `error` as describe() in common.mjs tells it."""

    def __init__(self, line):
        self.error, self.calls = line["error"], line["calls"]
        self.partial = line.get("partial")
        super().__init__(json.dumps(self.error)[:1000])


class Call:
    """One that is in progress."""

    def __init__(self, client, number):
        self.client, self.number, self.inbox = client, number, queue.Queue()
        self.calls = []

    def event(self, name, n=None):
        """Waits for it."""
        while True:
            line = self.inbox.get(timeout=WAIT_S)
            assert "event" in line, f"it ended without {name}: {str(line)[:500]}"
            if line["event"] == name and n in (None, line.get("n")):
                return line

    def cancel(self):
        self.client.send({"id": self.number, "cancel": True})

    def result(self):
        while True:
            line = self.inbox.get(timeout=WAIT_S)
            if "error" in line:
                raise Failed(line)
            if "result" in line:
                self.calls = line["calls"]  # what went over the wire: url, status, headers, ...
                return line["result"]


class Client:
    def __init__(self, name, base):
        self.base, self.running, self.numbers = base, {}, itertools.count(1)
        self.lock = threading.Lock()
        self.child = subprocess.Popen(
            ["node", CLIENTS / f"{name}.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1, env={**os.environ, "MEGALITH_NPM": str(NPM), "NO_PROXY": "*"})
        self.ready = self.running[0] = Call(self, 0)
        threading.Thread(target=self._read, daemon=True).start()
        self.ready.event("ready")

    def _read(self):
        for line in self.child.stdout:
            line = json.loads(line)
            if call := self.running.get(line["id"]):
                call.inbox.put(line)

    def send(self, line):
        with self.lock:
            self.child.stdin.write(json.dumps(line) + "\n")
            self.child.stdin.flush()

    def start(self, call, *params, **args):
        number = next(self.numbers)
        started = self.running[number] = Call(self, number)
        self.send({"id": number, "call": call, "args": {"base": self.base, "params": params, **args}})
        return started

    def run(self, call, *params, **args):
        return self.start(call, *params, **args).result()

    def close(self):
        self.child.stdin.close()
        self.child.wait(10)

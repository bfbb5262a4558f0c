# SPDX-License-Identifier: MIT
"""slowhttptest against the router, in its four modes: an honest client is not delayed."""

import re
import shutil
import subprocess
import time

import pytest

import wire
from dialect import CASES

pytestmark = [pytest.mark.router, pytest.mark.skipif(
    not shutil.which("slowhttptest"), reason="slowhttptest is not installed: run `make deps` as root")]
SECONDS, CONNECTIONS = 3, 200
LATE_MS = 50  # p99, more than without the attack

MODES = {
    "headers": ["-H", "-u", "{}/v1/models"],
    # a form, since what is no JSON is refused at its first byte
    "body": ["-B", "-u", "{}/v1/audio/transcriptions", "-f", "multipart/form-data; boundary=x", "-s", "65536"],
    "range": ["-R", "-u", "{}/v1/models", "-t", "HEAD"],
    "read": ["-X", "-u", "{}/v1/models", "-k", "10", "-n", "1", "-w", "1", "-y", "64", "-z", "8"],
}


def honest(farm, going_on):
    """Milliseconds of each request, by turns over a kept connection and over new ones."""
    spent, kept = [], wire.Connection(*farm.router)
    while going_on(len(spent)):
        fresh = len(spent) % 2
        dialect = CASES[len(spent) % 4]
        began = time.monotonic()
        connection = wire.Connection(*farm.router) if fresh else kept
        answer = connection.ask("POST", dialect.path, dialect.ask("fast", max_tokens=3))
        assert "s1" in dialect.text(answer)
        spent.append((time.monotonic() - began) * 1000)
        if fresh:
            connection.close()
    kept.close()
    return spent


def p99(values):
    return sorted(values)[int(len(values) * 0.99)]


@pytest.mark.parametrize("mode", MODES)
def test_slow__an_honest_client_is_not_delayed(farm, mode):
    quiet = honest(farm, lambda n: n < 100)
    base = "http://%s:%d" % farm.router
    attack = subprocess.Popen(
        ["slowhttptest", "-c", str(CONNECTIONS), "-r", "200", "-i", "1", "-l", str(SECONDS), "-p", "3",
         "-v", "1", *(word.format(base) for word in MODES[mode])],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        spent = honest(farm, lambda _: attack.poll() is None)
        output = attack.communicate(timeout=10)[0]
    finally:
        if attack.poll() is None:
            attack.kill()
            attack.wait()
    print(f"{mode}: {len(spent)} requests, p50 {sorted(spent)[len(spent) // 2]:.1f} ms, "
          f"p99 {p99(spent):.1f} ms (quiet {p99(quiet):.1f} ms)")
    assert len(spent) > 100, output
    assert re.search(r"(?i)status on \d+th second|Exit status", output), output[-1000:]
    assert p99(spent) <= p99(quiet) + LATE_MS
    answer = wire.Connection(*farm.router).ask("GET", "/health")
    assert answer.status == 200

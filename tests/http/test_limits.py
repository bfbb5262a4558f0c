# SPDX-License-Identifier: MIT
"""At the edge: buffers that fill up in the very last read, no descriptors left, as many clients as
there may be."""

import resource
import time
from pathlib import Path

import pytest

import wire
from dialect import WHOLES
from farm import Farm, LabError, pushed_until_stuck, wait_until
from lab import MODEL, answers

pytestmark = pytest.mark.router

def test_slow_reader__the_kept_connection_of_its_node_is_read_again(lab, connect, farm):
    """The proxy stops reading from a node whose client is slow; when that is with the last bytes of
    the answer, the connection is kept all the same, and must be of use."""
    dialect = WHOLES[0]
    farm.stop("x2")
    farm.wait_down("x2")

    def served():
        return farm.metric("megalith_http_requests_total", node="x1")

    def big(size):
        return lambda request: request.answer(200, b" " * size)

    def push(size):
        before = served()
        lab.play(big(size))
        client = connect(receive_buffer=4096, segment=536)
        client.request("POST", dialect.path, dialect.ask(MODEL))
        try:
            wait_until(lambda: served() > before, "the node has been read", 0.4, 0.003)
        except LabError:
            return False
        finally:
            client.close()
        lab.play(answers(dialect))
        answer = connect().ask("POST", dialect.path, dialect.ask(MODEL))
        assert dialect.text(answer) == "fine"
        assert answer.field("x-megalith-attempts") == "1", f"not read, after {size} bytes"
        return True
    print(f"stuck at {pushed_until_stuck(push)} bytes")

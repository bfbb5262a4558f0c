# SPDX-License-Identifier: MIT
"""One farm for all tests; each finds it calm, and must leave every slot free."""

import signal
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import farm as farms  # noqa: E402
import lab as labs  # noqa: E402
import npmclient  # noqa: E402
import wire  # noqa: E402


def _terminated(number, frame):
    raise KeyboardInterrupt  # so that farms are taken down


def pytest_configure(config):
    signal.signal(signal.SIGTERM, _terminated)
    config.addinivalue_line("markers", "router: what only the router does, not a node alone")


def pytest_collection_modifyitems(items):
    missing = farms.missing()
    for item in items:
        if missing:
            item.add_marker(pytest.mark.skip(reason="; ".join(missing)))
        elif farms.DIRECT and item.get_closest_marker("router"):
            item.add_marker(pytest.mark.skip(reason="MEGALITH_HTTP_DIRECT: there is no router"))


@pytest.fixture(scope="session")
def whole_farm():
    made = farms.Farm()
    made.up()
    yield made
    made.down()


@pytest.fixture
def farm(whole_farm):
    before = {p: len(p.log()) for p in whole_farm._processes()}
    yield whole_farm
    crashes = []
    for process, seen in before.items():
        if text := process.log()[seen:]:
            print(f"--- {process.name} meanwhile:\n{text[-3000:]}")
            crashes += filter(None, [farms.first_crash(text)])
    try:
        whole_farm.check_alive()
        whole_farm.wait_idle()
    finally:
        whole_farm.calm()
    assert not crashes, crashes


@pytest.fixture
def connect(farm):
    """connect() or connect(address, port): a raw connection that the test's end closes."""
    made = []

    def to(address=None, port=None, **options):
        target = (address, port) if port else farm.router
        made.append(wire.Connection(*target, **options))
        return made[-1]
    yield to
    for connection in made:
        connection.close()


@pytest.fixture
def patient(farm):
    """For nodes that have much to read before they answer."""
    if farm.direct:
        yield
        return
    with farm.configured(first_byte_timeout_ms=30000):
        yield


@pytest.fixture(scope="session")
def npm():
    reason = npmclient.install()
    if reason:
        pytest.skip(reason)


def _npm_client(name, base):
    made = npmclient.Client(name, base)
    yield made
    made.close()


@pytest.fixture(scope="session")
def whole_openai(npm, whole_farm):
    yield from _npm_client("openai", "http://%s:%d/v1" % whole_farm.router)


@pytest.fixture(scope="session")
def whole_ollama(npm, whole_farm):
    yield from _npm_client("ollama", "http://%s:%d" % whole_farm.router)


@pytest.fixture
def openai(farm, whole_openai):
    return whole_openai


@pytest.fixture
def ollama(farm, whole_ollama):
    return whole_ollama


@pytest.fixture
def lab(farm):
    made = labs.Lab(farm)
    yield made
    made.go.set()
    assert not made.overlaps, "a node had begun while another was still at work on the request"

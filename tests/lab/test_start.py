# SPDX-License-Identifier: MIT
"""Starts that cannot work: one line says why, the exit code is not 0, nothing is left behind."""

import shutil
import subprocess

import pytest

from labfarm import run, wait_until
from rig import attached, pins, reserved_ports

STUB = """
__attribute__((section("xdp"), used)) int pass_all(void *ctx) { return 2; }
char gpl[] __attribute__((section("license"), used)) = "GPL";
"""


def start(lab, *argv):
    return lab.gw.run(*argv, check=False, timeout=20)


def refused(lab, done, *words, before=frozenset()):
    """One line on stderr which has the words; exit code of contract §1; nothing left."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode in (1, 2), done.stderr
    assert len(lines) == 1, done.stderr
    assert "Sanitizer" not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]
    assert pins(lab) == []
    assert attached(lab.gw.namespace) == set(before)
    assert reserved_ports(lab) == ""
    assert list(lab.run_dir.iterdir()) == []
    assert lab.gw.namespace.pids() == []


@pytest.mark.parametrize("datapath", ["tc", "xdp", "auto"])
def test_start__without_root(bare, datapath):
    for path in (bare.run_dir, bare.state_dir):
        shutil.chown(path, "nobody")
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]
    done = start(bare, *nobody, *bare.controller_argv("--datapath", datapath))
    refused(bare, done)
    assert done.returncode == 1


def test_start__without_bpffs(bare):
    run("umount", bare.bpf_dir.parent)
    done = start(bare, *bare.controller_argv())
    refused(bare, done, str(bare.bpf_dir.parent))
    assert not bare.bpf_dir.exists()


@pytest.mark.parametrize("datapath", ["tc", "xdp", "auto"])
def test_start__interface_that_does_not_exist(bare, datapath):
    document = bare.config()
    document["gateway"]["interfaces"] = ["lan0", "nope0"]
    bare.write_config(document)
    refused(bare, start(bare, *bare.controller_argv("--datapath", datapath)), "nope0")


def test_start__interface_with_a_foreign_xdp_program(bare):
    source, stub = bare.dir / "stub.c", bare.dir / "stub.o"
    source.write_text(STUB)
    clang = shutil.which("clang") or pytest.skip("clang is not installed")
    subprocess.run([clang, "-O2", "-g", "-target", "bpf", "-c", source, "-o", stub], check=True)
    bare.prepare_xdp()
    # on the second interface: what was done to the first must be undone
    bare.gw.run("ip", "link", "set", "dev", "mesh0", "xdp", "obj", stub, "sec", "xdp")
    before = attached(bare.gw.namespace)
    assert ("mesh0", "xdp") in before
    refused(bare, start(bare, *bare.controller_argv("--datapath", "xdp")), "mesh0", before=before)


def test_start__configuration_with_errors(bare):
    document = bare.config()
    document["personas"]["raw"]["nodes"] = ["who"]
    document["gateway"]["max_flows"] = -1
    bare.write_config(document)
    done = start(bare, *bare.controller_argv())
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2 and all(f"{bare.config_path}:" in line for line in lines), lines
    assert pins(bare) == [] and attached(bare.gw.namespace) == set()


def test_start__configuration_that_is_not_there(bare):
    bare.config_path.unlink()
    done = start(bare, *bare.controller_argv())
    refused(bare, done, str(bare.config_path))
    assert done.returncode == 2


def test_start__persona_port_taken(bare):
    """Somebody else listens on a persona port: steering works, the proxy says what is missing."""
    listener = bare.gw.listen(11600)
    try:
        bare.start_controller()
        wait_until(lambda: "11600" in bare.log("megalithd"), "the proxy says so")
    finally:
        listener.close()
        bare.stop_controller()

# SPDX-License-Identifier: MIT
"""A farm in network namespaces: clients, a gateway, nodes. For scripts/lab, the demo and tests.

    cl1, cl2 ── switch ── lan0  gw  mesh0 ── switch ── cruncher-internal, halo-1, pi-3, ...
             10.77.1.0/24                10.77.2.0/24
              fd77:1::/64                 fd77:2::/64

Each lab has a generated name (mg and four hex digits), which prefixes its namespaces, so labs
coexist. What it starts is written to /run/megalith-lab/NAME/lab.json before anything else happens,
and all can be found again from the name alone: Lab.find(NAME).down() cleans up after a crash.

Nothing here forwards: net.ipv4.ip_forward stays 0 in the gateway, megalith carries what crosses.
"""

import contextlib
import copy
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from labnet import (NETNS, LabError, Machine, Namespace, attach_xdp_pass, run, start_time,
                    wait_until)

REPO = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("MEGALITH_BUILD", REPO / "build")).resolve()
LABS = Path(os.environ.get("MEGALITH_LABS", "/run/megalith-lab"))
PROGRAMS = ("megalithd", "megalith-proxy", "megalithctl", "megalith-simnode")
NAME_PATTERN = re.compile(r"^mg[0-9a-f]{4}$")

LAN4, LAN6 = "10.77.1.{}", "fd77:1::{}"  # clients' side; the gateway is 1
MESH4, MESH6 = "10.77.2.{}", "fd77:2::{}"  # nodes' side
FIRST_CLIENT, FIRST_NODE = 11, 21


def ollama(capacity, *models):
    return {"llm": {"engine": "ollama", "capacity": capacity, "pin": list(models)}}


# The machines of the mission, small: what `megalith.json` says of them, addresses left out.
DEFAULT_NODES = {
    "cruncher-internal": {"services": ollama(2, "deepseek-r1:latest", "qwen2.5-coder:latest")},
    "cruncher-egpu": {"services": ollama(2, "deepseek-r1:latest", "qwen2.5-coder:latest")},
    "halo-1": {"services": ollama(4, "llama3:70b", "mixtral:8x22b")},
    "halo-2": {"services": ollama(4, "llama3:70b", "mixtral:8x22b")},
    "halo-3": {"services": ollama(4, "llama3:70b", "mixtral:8x22b")},
    "medialab-3080ti": {"services": ollama(2, "llama3.2-vision:latest")},
    "medialab-2080": {"services": {**ollama(2, "llama3.2-vision:latest"),
                                   "voice": {"engine": "wyoming", "capacity": 4}}},
    "pi-1": {"services": ollama(8, "llama3.2:3b", "llama3.2:1b", "phi3.5:latest")},
    "pi-2": {"services": ollama(8, "llama3.2:3b", "llama3.2:1b", "phi3.5:latest")},
    "pi-3": {"services": ollama(8, "llama3.2:3b", "llama3.2:1b", "phi3.5:latest")},
}
DEFAULT_PERSONAS = {
    "cruncher": {"nodes": ["cruncher-internal", "cruncher-egpu"], "listen": {"llm": 11501},
                 "cascade": ["fat-brain"]},
    "fat-brain": {"nodes": ["halo-1", "halo-2", "halo-3"], "listen": {"llm": 11502}},
    "media-lab": {"nodes": ["medialab-3080ti", "medialab-2080"],
                  "listen": {"llm": 11503, "voice": 10300}},
    "swarm": {"nodes": ["pi-1", "pi-2", "pi-3"], "listen": {"llm": 11504},
              "cascade": ["fat-brain"]},
}
DEFAULT_MODELS = {
    "reasoning": [{"persona": "cruncher", "model": "deepseek-r1:latest"},
                  {"persona": "fat-brain", "model": "llama3:70b"}],
    "code": [{"persona": "cruncher", "model": "qwen2.5-coder:latest"},
             {"persona": "fat-brain", "model": "llama3:70b"}],
    "rag": [{"persona": "fat-brain", "model": "llama3:70b"},
            {"persona": "fat-brain", "model": "mixtral:8x22b"}],
    "vision": [{"persona": "media-lab", "model": "llama3.2-vision:latest"}],
    "fast": [{"persona": "swarm", "model": "llama3.2:3b"},
             {"persona": "swarm", "model": "llama3.2:1b"}],
    "gpt-4": "reasoning", "gpt-4-turbo": "reasoning", "gpt-4o": "vision", "gpt-3.5-turbo": "fast",
}
DEFAULT_PORTS = {"ollama": 11434, "llamacpp": 8080, "vllm": 8000, "sglang": 30000, "openai": 8000,
                 "comfyui": 8188, "immich": 3003, "wyoming": 10300, "http": 80}
ROUTER_PORT = 4000  # of the gateway, for everybody
COMMON_MODEL = "lab:latest"  # every simulated node has it, so any answers, cascaded to or not
PERSONA_SETS = {"default": (DEFAULT_NODES, DEFAULT_PERSONAS, DEFAULT_MODELS)}


def missing(binaries=PROGRAMS):
    """What keeps a lab from running here, as sentences; empty when nothing does."""
    found = []
    if os.geteuid() != 0:
        found.append("network namespaces need root: run it with sudo")
    for tool in ("ip", "nsenter", "mount", "umount", "ethtool"):
        if not shutil.which(tool):
            found.append(f"{tool} is not installed: run `make deps` as root")
    for name in binaries:
        if not (BUILD / name).exists():
            found.append(f"{BUILD / name} is not built: run `make`")
    return found


class Lab:
    """One farm. `nodes`, `personas` and `models` are written as in megalith.json (contract §2).

    datapath    tc, xdp, auto or none; xdp sets the offloads of the neighbours right as well
    family      4 or 6: by which address the configuration names the nodes
    probe       probe section of the configuration
    simulate    False: nodes get no megalith-simnode, the caller serves them
    """

    def __init__(self, name=None, nodes=None, personas=None, models=None, clients=2,
                 datapath="auto", family=4, probe=None, simulate=True):
        self.name = name or "mg" + secrets.token_hex(2)
        if not NAME_PATTERN.match(self.name):
            raise LabError(f"lab name {self.name!r}: must be mg and four hex digits")
        self.node_specs = DEFAULT_NODES if nodes is None else nodes
        self.persona_specs = DEFAULT_PERSONAS if personas is None else personas
        self.model_specs = DEFAULT_MODELS if models is None and nodes is None else models or {}
        self.datapath, self.family, self.simulate = datapath, family, simulate
        self.probe = probe or {"interval_ms": 250, "timeout_ms": 200, "rise": 1, "fall": 2}
        self.dir = LABS / self.name
        self.run_dir, self.state_dir = self.dir / "run", self.dir / "state"
        self.bpf_dir = self.dir / "bpf" / "megalith"
        self.log_dir, self.config_path = self.dir / "log", self.dir / "megalith.json"
        self.bin = self.dir / "bin"
        self.gw = self._machine("gw", LAN4.format(1), LAN6.format(1))
        self.switch = Namespace(f"{self.name}-switch")
        self.clients = [self._machine(f"cl{i + 1}", LAN4.format(FIRST_CLIENT + i),
                                      LAN6.format(FIRST_CLIENT + i)) for i in range(clients)]
        self.nodes = {name: self._machine(name, MESH4.format(i), MESH6.format(i))
                      for i, name in enumerate(self.node_specs, FIRST_NODE)}
        self.owner = {}  # the process that works with the lab: {"pid", "start"}
        self.processes = {}  # what → {"pid", "start"}; our own children are in _children as well
        self._children = {}

    def _machine(self, name, v4, v6):
        return Machine(name, Namespace(f"{self.name}-{name}"), v4, v6)

    # --- finding labs again ---------------------------------------------------------------

    @staticmethod
    def names():
        """Labs of which anything is left."""
        found = {p.name for p in LABS.iterdir()} if LABS.is_dir() else set()
        if NETNS.is_dir():
            found |= {p.name.split("-", 1)[0] for p in NETNS.iterdir() if "-" in p.name}
        return sorted(n for n in found if NAME_PATTERN.match(n))

    @classmethod
    def find(cls, name):
        """A lab that another process brought up; whatever is left of it when that one died."""
        try:
            saved = json.loads((LABS / name / "lab.json").read_text())
        except (OSError, ValueError):
            saved = {}
        lab = cls(name, **saved.get("options", {}))
        lab.processes, lab.owner = saved.get("processes", {}), saved.get("owner", {})
        return lab

    def in_use(self):
        """Another process that is still alive (a test, a demo) has brought it up for itself."""
        pid = self.owner.get("pid")
        return bool(pid) and pid != os.getpid() and start_time(pid) == self.owner["start"]

    def _save(self):
        options = {"nodes": self.node_specs, "personas": self.persona_specs,
                   "models": self.model_specs, "clients": len(self.clients),
                   "datapath": self.datapath, "family": self.family, "probe": self.probe,
                   "simulate": self.simulate}
        part = self.dir / "lab.json.part"
        part.write_text(json.dumps({"options": options, "processes": self.processes,
                                    "owner": self.owner}, indent=1))
        part.rename(self.dir / "lab.json")

    def machine(self, name):
        """gw, cl1, halo-1, ..."""
        for machine in [self.gw, *self.clients, *self.nodes.values()]:
            if machine.name == name:
                return machine
        raise LabError(f"no machine {name!r} in lab {self.name}: "
                       + ", ".join(m.name for m in [self.gw, *self.clients, *self.nodes.values()]))

    # --- up and down ----------------------------------------------------------------------

    def up(self, controller=True):
        """The network, the nodes, and megalithd in the gateway. Ready when it returns."""
        if self.dir.exists() or self.gw.namespace.exists():
            raise LabError(f"lab {self.name} is there already: scripts/lab down --name {self.name}")
        self.owner = {"pid": os.getpid(), "start": start_time(os.getpid())}
        try:
            for path in (self.run_dir, self.state_dir, self.log_dir, self.bpf_dir.parent, self.bin):
                path.mkdir(parents=True)
            self._save()
            self._install()
            run("mount", "-t", "bpf", "-o", "mode=0700", "megalith-lab", self.bpf_dir.parent)
            self._build_network()
            self.write_config()
            if self.simulate:
                for name in self.nodes:
                    self.start_node(name, wait=False)
                for name in self.nodes:
                    self.wait_node(name)
            if controller:
                self.start_controller()
        except BaseException:
            self.down()
            raise
        return self

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.down()

    def down(self):
        """Ends what the lab started, removes what it made. May be called at any time, and twice."""
        self._end_processes()
        for space in sorted(NETNS.glob(f"{self.name}-*")) if NETNS.is_dir() else []:
            run("ip", "netns", "delete", space.name, check=False)
        if self.dir.exists():
            run("umount", "-l", self.bpf_dir.parent, check=False)
            shutil.rmtree(self.dir, ignore_errors=True)
        with contextlib.suppress(OSError):
            LABS.rmdir()  # the last one turns off the light
        left = [p.name for p in NETNS.glob(f"{self.name}-*")] if NETNS.is_dir() else []
        if left or self.dir.exists():
            raise LabError(f"lab {self.name}: could not remove {' '.join(left)} {self.dir}")

    def _install(self):
        """Programs where the proxy's user can reach them: the build may be in a private home."""
        for path in (LABS, self.dir, self.bin):
            path.chmod(0o755)
        for program in PROGRAMS:
            if (BUILD / program).exists():
                shutil.copy(BUILD / program, self.bin / program)
                (self.bin / program).chmod(0o755)

    def _end_processes(self):
        """By the recorded pids, then whatever else lives in the lab's own namespaces."""
        def left():
            for what in [w for w in self.processes if not self.alive(w)]:
                del self.processes[what]
            pids = {p["pid"] for p in self.processes.values()}
            for space in NETNS.glob(f"{self.name}-*") if NETNS.is_dir() else []:
                pids |= set(Namespace(space.name).pids())
            return {p for p in pids if p not in (os.getpid(), os.getppid()) and start_time(p)}

        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in left():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(LabError):
                wait_until(lambda: not left(), "processes gone", 3)
                return

    def _build_network(self):
        gw, switch = self.gw.namespace, self.switch
        for space in [gw, switch, *[m.namespace for m in self._peripherals()]]:
            run("ip", "netns", "add", space.name)
            # no duplicate address detection: an address is usable when it is set
            space.sysctl(net__ipv6__conf__all__accept_dad=0, net__ipv6__conf__default__accept_dad=0)
        switch.sysctl(net__ipv6__conf__all__disable_ipv6=1,
                      net__ipv6__conf__default__disable_ipv6=1)
        switch.ip("link set lo up",
                  *[f"link add {side} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
                    for side in ("lan", "mesh")],
                  *[f"link set {side} up" for side in ("lan", "mesh")])
        self._plug(gw, "lan0", "lan", "lan-gw", LAN4.format(1), LAN6.format(1))
        self._plug(gw, "mesh0", "mesh", "mesh-gw", MESH4.format(1), MESH6.format(1))
        for i, client in enumerate(self.clients):
            self._plug(client.namespace, "eth0", "lan", f"lan-{i}", client.v4, client.v6)
        for i, node in enumerate(self.nodes.values()):
            self._plug(node.namespace, "eth0", "mesh", f"mesh-{i}", node.v4, node.v6)
        if self.datapath == "xdp":
            self.prepare_xdp()

    def _peripherals(self):
        return [*self.clients, *self.nodes.values()]

    def _plug(self, space, device, side, port, v4, v6):
        """A cable from `device` in `space` to the switch."""
        self.switch.ip(f"link add {port} type veth peer name {device} netns {space.name}",
                       f"link set {port} master {side} up")
        space.ip("link set lo up",
                 f"addr add {v4}/24 dev {device}",
                 f"addr add {v6}/64 dev {device} nodad",
                 f"link set {device} up")

    def prepare_xdp(self):
        """XDP in the gateway sees frames as its neighbours send them: these must finish checksums.
        And a veth receives frames of a redirect only with NAPI (gro brings it), frames of XDP_TX
        only when it has an XDP program of its own: else they vanish, without a word."""
        for port in ("lan-gw", "mesh-gw"):
            self.switch.run("ethtool", "-K", port, "tx", "off", "gro", "on")
            with self.switch.entered():
                attach_xdp_pass(port, self.dir / "bpf" / f"pass-{port}")

    # --- configuration --------------------------------------------------------------------

    def config(self):
        """The configuration, a copy of the caller's own: change it, give it to write_config()."""
        nodes = {}
        for name, spec in self.node_specs.items():
            machine = self.nodes[name]
            nodes[name] = {"address": machine.v6 if self.family == 6 else machine.v4, **spec}
        return copy.deepcopy({
            "gateway": {"interfaces": ["lan0", "mesh0"], "datapath": self.datapath},
            "router": {"listen": f"0.0.0.0:{ROUTER_PORT}", "allow_anonymous": True,
                       "queue_ms": 2000},
            "probe": self.probe,
            "nodes": nodes,
            "personas": self.persona_specs,
            "models": self.model_specs,
        })

    def write_config(self, document=None):
        part = self.dir / "megalith.json.part"
        part.write_text(json.dumps(document or self.config(), indent=2) + "\n")
        part.rename(self.config_path)

    def port(self, persona, service="llm"):
        return self.persona_specs[persona]["listen"][service]

    # --- processes ------------------------------------------------------------------------

    def spawn(self, what, space, argv, env=None):
        """Starts and records a process; its output goes to log/WHAT."""
        with open(self.log_dir / what, "ab") as log:
            child = subprocess.Popen(space.argv(*argv), stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=log, start_new_session=True,
                                     env={**os.environ, **(env or {})})
        self._children[what] = child
        self.processes[what] = {"pid": child.pid, "start": start_time(child.pid)}
        self._save()
        return child.pid

    def alive(self, what):
        process = self.processes.get(what)
        if what in self._children:
            return self._children[what].poll() is None
        return bool(process) and start_time(process["pid"]) == process["start"]

    def pid(self, what):
        return self.processes[what]["pid"]

    def end(self, what, number=signal.SIGTERM, seconds=10):
        """Signals a process and waits until it is gone. Its exit status if we are its parent."""
        if self.alive(what):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid(what), number)
            wait_until(lambda: not self.alive(what), f"{what} ends after signal {number}", seconds)
        self.processes.pop(what, None)
        if self.dir.exists():
            self._save()
        child = self._children.pop(what, None)
        return child.returncode if child else None

    def log(self, what):
        with contextlib.suppress(FileNotFoundError):
            return (self.log_dir / what).read_text(errors="replace")
        return ""

    # --- nodes ----------------------------------------------------------------------------

    def services(self, name):
        """NAME → (engine, port) of a node, short form resolved."""
        found = {}
        for service, spec in self.node_specs[name]["services"].items():
            spec = {"engine": spec} if isinstance(spec, str) else spec
            found[service] = (spec["engine"], spec.get("port") or DEFAULT_PORTS[spec["engine"]])
        return found

    def simnode_argv(self, name):
        specs = [s for s in self.node_specs[name]["services"].values() if isinstance(s, dict)]
        slots = max([spec.get("capacity", 0) for spec in specs], default=0) or 64
        argv = [self.bin / "megalith-simnode", "--name", name, "--slots", slots, "--ttft-ms", 5]
        for engine, port in self.services(name).values():
            argv += ["--service", f"{engine}:{port}"]
        for model in [m for spec in specs for m in spec.get("pin", [])] + [COMMON_MODEL]:
            argv += ["--model", model]
        return argv

    def start_node(self, name, wait=True):
        """The simulated engines of one node."""
        self.spawn(name, self.nodes[name].namespace, self.simnode_argv(name))
        if wait:
            self.wait_node(name)

    def wait_node(self, name):
        def ready():
            if not self.alive(name):
                raise LabError(f"{name} ended at once: {self.log(name).strip()[-300:]}")
            return all(self._answers(name, port) for _, port in self.services(name).values())
        wait_until(ready, f"{name} answers")

    def _answers(self, name, port):
        node = self.nodes[name]
        try:
            node.connect("127.0.0.1", port, timeout=1).close()
        except OSError:
            return False
        return True

    def kill_node(self, name):
        """The process dies, the machine lives: connections are reset, new ones refused."""
        self.end(name, signal.SIGKILL)

    def unplug(self, name):
        """The machine loses power: silence."""
        self.switch.ip(f"link set mesh-{list(self.nodes).index(name)} down")

    def plug(self, name):
        self.switch.ip(f"link set mesh-{list(self.nodes).index(name)} up")

    # --- controller -----------------------------------------------------------------------

    def directories(self):
        return ["--run-dir", self.run_dir, "--state-dir", self.state_dir, "--bpf-dir", self.bpf_dir]

    def controller_argv(self, *more):
        return [self.bin / "megalithd", "-c", self.config_path, *self.directories(), *more]

    def start_controller(self, *more, healthy=True):
        """megalithd in the gateway. Returns when it is ready and, if asked, all nodes are up."""
        before = len(self.log("megalithd"))
        self.spawn("megalithd", self.gw.namespace, self.controller_argv(*more))

        def ready():
            text = self.log("megalithd")[before:]
            if not self.alive("megalithd"):
                raise LabError("megalithd ended at once:\n" + text.strip())
            return re.search(r"^(\S+: )*ready\b", text, re.M)
        wait_until(ready, "megalithd is ready: " + self.log("megalithd")[before:][-500:], 15)
        if healthy:
            wait_until(self.healthy, "all nodes up", 15)
            wait_until(self.planned, "the plan has them", 15)

    def planned(self):
        """Somebody may be taken for each persona: the plan follows the probes by some milliseconds."""
        return all(json.loads(self.ctl("explain", persona, "--json", check=False).stdout or "{}")
                   .get("taken") for persona in self.config()["personas"])

    def stop_controller(self, number=signal.SIGTERM):
        return self.end("megalithd", number)

    def ctl(self, *argv, check=True):
        """megalithctl, as anybody on the gateway would use it."""
        return self.gw.namespace.run(self.bin / "megalithctl", "--run-dir", self.run_dir, *argv,
                                     check=check)

    def status(self):
        return json.loads(self.ctl("status", "--json").stdout)

    def node_status(self, name):
        return next(n for n in self.status()["nodes"] if n["name"] == name)

    def service_status(self, node, service="llm"):
        return self.node_status(node)["services"][service]

    def wait_busy(self, node, service, busy, seconds=10):
        wait_until(lambda: self.service_status(node, service)["busy"] == busy,
                   f"{node}/{service} has {busy} busy", seconds)

    def healthy(self):
        return all(n["state"] == "up" and all(s["up"] for s in n["services"].values())
                   for n in self.status()["nodes"])

    def wait_state(self, node, state, seconds=10):
        wait_until(lambda: self.node_status(node)["state"] == state, f"{node} is {state}", seconds)

    def wait_idle(self, seconds=10):
        """No connection and no handshake is left in the counts."""
        def idle():
            return all(s["connections"] == 0 and s["busy"] == 0
                       for n in self.status()["nodes"] for s in n["services"].values())
        wait_until(idle, "no connection left", seconds)

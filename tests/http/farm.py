# SPDX-License-Identifier: MIT
"""A farm on loopback, without root and without namespaces: simulated nodes on 127.A.B.n, megalithd
without a datapath, and the megalith-proxy that it starts.

    with Farm() as farm:
        farm.router                 (address, port) of the HTTP router
        farm.set("c1", fail="hang") farm.stats("c1") farm.stop("c1") farm.start("c1")
        farm.status() farm.metrics() farm.ctl("reload")

A and B are drawn at random and ports are free ones, so farms live side by side.

MEGALITH_BUILD        another build (sanitizers)
MEGALITH_HTTP_HALF    0 or 1, when two processes run tests at the same time
MEGALITH_HTTP_DIRECT  no gateway at all: what would be the router is a simulated node that has every
                      model. For what a node and the router have in common; proves the harness.
"""

import contextlib
import copy
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "scripts"))

from labnet import LabError, wait_until  # noqa: E402
import scripted  # noqa: E402

BUILD = Path(os.environ.get("MEGALITH_BUILD", REPO / "build")).resolve()
DIRECT = bool(os.environ.get("MEGALITH_HTTP_DIRECT"))
HALF = int(os.environ.get("MEGALITH_HTTP_HALF", 0))  # 0 or 1: of those that run at the same time
PROGRAMS = ("megalithd", "megalith-proxy", "megalithctl", "megalith-simnode")
SANITIZER = re.compile(r"^.*(AddressSanitizer|LeakSanitizer|runtime error:).*$", re.M)
PROXY_ENDED = re.compile(r"^.*megalith-proxy ended \(.*$", re.M)

# How a simulated node behaves between tests: quick, and with more slots than it is said to have, so
# that it is the router's counting that keeps it from too much.
CALM = {"slots": 64, "tps": 2000, "ttft_ms": 1, "tokens": 8, "token_bytes": 0, "answer_bytes": 0,
        "stamp": False, "status": 0, "fail": "none", "fail_times": 0}

QUEUE_MS, QUEUE_LENGTH, FIRST_BYTE_MS, MAX_BODY_MB = 1200, 4, 400, 16
PUSH_STEP = 16384
PROBE = {"interval_ms": 200, "timeout_ms": 150, "rise": 1, "fall": 2}


def ollama(capacity, *models):
    return {"engine": "ollama", "capacity": capacity, "pin": list(models)}


NODES = {
    "c1": {"services": {"llm": ollama(2, "deepseek-r1:latest", "qwen2.5-coder:latest")}},
    "c2": {"services": {"llm": ollama(2, "deepseek-r1:latest", "qwen2.5-coder:latest")}},
    "h1": {"services": {"llm": ollama(4, "llama3:70b")}},
    "m1": {"services": {"llm": ollama(2, "llama3.2-vision:latest"),
                        "image": {"engine": "comfyui"}}},
    "s1": {"services": {"llm": ollama(4, "llama3.2:3b", "llama3.2:1b")}},
    "s2": {"services": {"llm": {"engine": "vllm", "capacity": 4}}},
    # served by threads of the test, byte by byte: see scripted.py
    "x1": {"services": {"llm": ollama(2, "raw:latest")}},
    "x2": {"services": {"llm": ollama(2, "raw:latest")}},
    "y1": {"services": {"image": {"engine": "comfyui", "capacity": 4}}},
}
MODELS = {"s2": ["phi"]}  # of nodes that have no pins
SCRIPTED = ("x1", "x2", "y1")
PERSONAS = {  # SERVICE in listen: its port is found when the farm comes up
    "cruncher": {"nodes": ["c1", "c2"], "listen": ["llm"], "cascade": ["fat-brain"]},
    "fat-brain": {"nodes": ["h1"], "listen": ["llm"]},
    "media-lab": {"nodes": ["m1"], "listen": ["llm", "image"], "affinity": "client"},
    "swarm": {"nodes": ["s1", "s2"], "listen": ["llm"]},
    "lab": {"nodes": ["x1", "x2"], "listen": ["llm"]},
    "studio": {"nodes": ["y1"], "listen": ["image"], "affinity": "client"},
}
ALIASES = {
    "reasoning": [{"persona": "cruncher", "model": "deepseek-r1:latest"},
                  {"persona": "fat-brain", "model": "llama3:70b"}],
    "code": [{"persona": "cruncher", "model": "qwen2.5-coder:latest"},
             {"persona": "fat-brain", "model": "llama3:70b"}],
    "rag": [{"persona": "fat-brain", "model": "llama3:70b"}],
    "vision": [{"persona": "media-lab", "model": "llama3.2-vision:latest"}],
    "fast": [{"persona": "swarm", "model": "llama3.2:3b"},
             {"persona": "swarm", "model": "llama3.2:1b"}],
    "chat": {"targets": [{"persona": "cruncher", "model": "deepseek-r1:latest"},
                         {"persona": "fat-brain", "model": "llama3:70b"}], "affinity": "session"},
    "gpt-4": "reasoning", "gpt-4o": "vision", "gpt-3.5-turbo": "fast",
}


def missing():
    """What keeps a farm from running here, as sentences."""
    return [f"{BUILD / name} is not built: run `make`" for name in PROGRAMS
            if not (BUILD / name).exists()]


given = set()  # by free_port()


def free_port(address="::"):
    """A port that nobody listens on, below those that the kernel gives to clients and that are for
    NAT; never the same again, nor one that the other half of the tests may take."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        port = 2 * random.randrange(5000, 10000) + HALF
        if port in given:
            continue
        with socket.socket(family) as sock, contextlib.suppress(OSError):
            sock.bind((address, port))
            given.add(port)
            return port


def samples(text):
    """Of Prometheus text: NAME → [(labels, value)]"""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", line):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found.setdefault(match[1], []).append((labels, float(match[3])))
    return found


def failures(metrics):
    """Attempts that failed, and answers that say so, as they are counted."""
    codes = metrics.get("megalith_http_requests_total", [])
    return sum(value for _, value in metrics.get("megalith_http_retries_total", [])) + sum(
        value for labels, value in codes if labels["code"].startswith("5"))


def first_error(text):
    """What a sanitizer said, the beginning of it; or nothing."""
    found = SANITIZER.search(text)
    return text[found.start():found.start() + 4000] if found else ""


def first_crash(text):
    """The same, or that the proxy has died."""
    found = PROXY_ENDED.search(text)
    return first_error(text) or (found.group(0) if found else "")


def pushed_until_stuck(push, most=64 << 20):
    """push(size) for growing sizes, until it returns False: what the kernel takes for a client that
    does not read, and a little more. Coarse at first. The last size."""
    size, step = PUSH_STEP, 16 * PUSH_STEP
    while size < most:
        if push(size):
            size += step
        elif step > PUSH_STEP:
            size, step = max(PUSH_STEP, size - 16 * PUSH_STEP), PUSH_STEP
        else:
            return size
    raise LabError(f"the kernel takes {most} bytes")


class Process:
    """One of our programs, its output in a file."""

    def __init__(self, name, argv, log, nofile=None, env=None):
        self.name, self.argv, self.log_path = name, [str(a) for a in argv], log
        self.child, self.nofile, self.env = None, nofile, {**os.environ, **(env or {})}

    def start(self):
        self.before = len(self.log())
        limit = (resource.RLIMIT_NOFILE, (self.nofile, self.nofile))
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                start_new_session=True,
                preexec_fn=(lambda: resource.setrlimit(*limit)) if self.nofile else None)

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def wait_ready(self, seconds=15):
        def ready():
            text = self.log()[self.before:]
            if not self.alive():
                raise LabError(f"{self.name} ended at once:\n{text.strip()[-2000:]}")
            return re.search(r"^(\S+: )*ready\b", text, re.M)
        wait_until(ready, f"{self.name} is ready", seconds, 0.005)

    def end(self, number=signal.SIGTERM, seconds=10):
        """Signals it, waits; its exit status."""
        if self.alive():
            self.child.send_signal(number)
        try:
            return self.child.wait(seconds) if self.child else None
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise LabError(f"{self.name} did not end within {seconds} s of signal {number}")

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            return Path(self.log_path).read_text(errors="replace")
        return ""


class Node:
    """A simulated node: a process of its own, one address, a port for each service."""

    def __init__(self, farm, name, spec, address):
        self.name, self.address = name, address
        self.ports, engines = {}, {}
        for service, wish in spec["services"].items():
            self.ports[service] = wish["port"] = free_port(address)
            engines[service] = wish["engine"]
        self.models = MODELS.get(name) or spec["services"].get("llm", {}).get("pin", [])
        # one engine for all listeners of a process: a process for each other engine
        self.processes = []
        for engine in sorted(set(engines.values())):
            argv = [farm.bin / "megalith-simnode", "--name", name, "--engine", engine]
            for service, port in self.ports.items():
                if engines[service] == engine:
                    argv += ["--listen", f"{address}:{port}"]
            for model in self.models if engine not in ("comfyui", "any") else []:
                argv += ["--model", model]
            self.processes.append(Process(name, argv, farm.log_dir / f"{name}-{engine}"))
        self.service = next(iter(self.ports))
        self.touched = False  # by a test, so it has to be calmed

    @property
    def target(self):
        return self.address, self.ports[self.service]

    def start(self):
        for process in self.processes:
            if not process.alive():
                process.start()
        for process in self.processes:
            process.wait_ready()
        self.set(**CALM)

    def stop(self, number=signal.SIGKILL):
        """The machine stays, the engine is gone: connections reset, new ones refused."""
        for process in self.processes:
            process.end(number)

    def alive(self):
        return all(process.alive() for process in self.processes)

    def ask(self, method, path, document=None, service=None):
        port = self.ports[service or self.service]
        connection = http.client.HTTPConnection(self.address, port, timeout=10)
        try:
            connection.request(method, path, None if document is None else json.dumps(document))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise LabError(f"{self.name}: {method} {path} {document}: {answer.status} {text[:300]}")
        return json.loads(text)

    def set(self, **settings):
        self.touched = True
        for service in self.ports:
            self.ask("POST", "/sim/set", settings, service)

    def stats(self, service=None):
        """What it has counted since the test began."""
        return self.ask("GET", "/sim/stats", service=service)

    def idle(self):
        """Nothing in progress; None or what there is."""
        for service in self.ports:
            stats = self.stats(service)
            self.touched |= bool(stats["requests"])
            if stats["active"] or stats["waiting"]:
                return f"{self.name}: {stats['active']} active, {stats['waiting']} waiting"
        return None

    def calm(self):
        if not self.alive():
            self.stop()
            self.start()
        if self.touched:
            self.set(**CALM)
            for service in self.ports:
                self.ask("POST", "/sim/reset", {}, service)
        self.touched = False

    def log(self):
        return "".join(process.log() for process in self.processes)


class Farm:
    """router: what its section of the configuration says besides the defaults of these tests.
    nofile: so many descriptors for the controller, and for the proxy that it starts; env: for both."""

    def __init__(self, nodes=None, personas=None, aliases=None, router=None, direct=DIRECT,
                 nofile=None, env=None):
        self.direct, self.nofile, self.env = direct, nofile, env
        self.dir = Path(tempfile.mkdtemp(prefix="megalith-http-"))
        self.bin, self.run_dir, self.log_dir = (self.dir / d for d in ("bin", "run", "log"))
        self.state_dir, self.config_path = self.dir / "state", self.dir / "megalith.json"
        self.specs = copy.deepcopy(NODES if nodes is None else nodes)
        self.personas = copy.deepcopy(PERSONAS if personas is None else personas)
        self.aliases = copy.deepcopy(ALIASES if aliases is None else aliases)
        self.settings = {"queue_ms": QUEUE_MS, "queue_length": QUEUE_LENGTH,
                         "first_byte_timeout_ms": FIRST_BYTE_MS, "max_body_mb": MAX_BODY_MB,
                         **(router or {})}
        self.net = f"127.{random.randrange(1, 250)}.{random.randrange(256)}"
        self.nodes, self.controller, self.router, self.admin = {}, None, None, None
        self.seen_failures = 0

    # --- up and down ----------------------------------------------------------------------

    def up(self):
        try:
            self._install()
            self._make_nodes()
            for node in self.nodes.values():
                node.start()
            if self.direct:
                self.router = self.nodes["all"].target
            else:
                self._start_gateway()
        except BaseException:
            print(self.logs())
            self.down(check=False)
            raise
        return self

    def down(self, check=True):
        """Ends what it started. LabError when a program ended badly or a sanitizer spoke up."""
        problems = []
        for process in self._processes():
            try:
                code = process.end()
                if code not in (0, None, -signal.SIGKILL):
                    problems.append(f"{process.name} ended with {code}")
            except LabError as error:
                problems.append(str(error))
        problems += self._end_proxy()
        problems += filter(None, (first_crash(p.log()) for p in self._processes()))
        for node in self.nodes.values():
            if node.name in SCRIPTED:
                node.stop()
        logs = self.logs() if problems else ""
        shutil.rmtree(self.dir, ignore_errors=True)
        if check and problems:
            raise LabError("; ".join(problems) + "\n" + logs)

    def __enter__(self):
        return self.up()

    def __exit__(self, kind, *_):
        self.down(check=kind is None)

    def _install(self):
        """Programs where the proxy's user can reach them: the build may be in a private home."""
        self.dir.chmod(0o755)
        for path in (self.bin, self.run_dir, self.log_dir, self.state_dir):
            path.mkdir()
        for program in PROGRAMS:
            shutil.copy(BUILD / program, self.bin / program)

    def _make_nodes(self):
        for i, (name, spec) in enumerate(self.specs.items(), 1):
            spec["address"] = f"{self.net}.{i}"
            if name in SCRIPTED:
                self.nodes[name] = scripted.Node(name, spec)
            else:
                self.nodes[name] = Node(self, name, spec, spec["address"])
        if self.direct:
            spec = {"services": {"llm": {"engine": "any", "pin": []}}}
            self.nodes["all"] = Node(self, "all", spec, f"{self.net}.250")

    def _start_gateway(self):
        self.router = ("127.0.0.1", free_port())
        self.admin = ("127.0.0.1", free_port())
        for persona in self.personas.values():
            persona["listen"] = {service: free_port() for service in persona["listen"]}
        self.write_config()
        self.controller = Process("megalithd", [
            self.bin / "megalithd", "--datapath", "none", "--detach-on-exit", "-c",
            self.config_path, "--run-dir", self.run_dir, "--state-dir", self.state_dir,
            "--bpf-dir", self.dir / "bpf"], self.log_dir / "megalithd", self.nofile,
            self.env)
        self.controller.start()
        self.controller.wait_ready()
        wait_until(self.healthy, "all nodes up", 15, 0.01)
        wait_until(lambda: self.status()["proxy"]["followers"] >= 1, "the proxy follows", 15, 0.01)
        self.proxy_pid = self._find_proxy()
        try:
            wait_until(self._answers, f"GET /health of the router at {self.router}", 5, 0.01)
        except LabError as error:
            print(f"farm: {error}")  # what needs the router fails, the rest need not
        self.full = self.nodes_up()

    def _ask_router(self, path):
        connection = http.client.HTTPConnection(*self.router, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def _answers(self):
        return self._ask_router("/health")[0] == 200

    def nodes_up(self):
        """As the router has heard of it: the plan reaches it a little after the status says so."""
        status, text = self._ask_router("/health/readiness")
        return json.loads(text)["nodes_up"] if status == 200 else 0

    def _find_proxy(self):
        pid = self.controller.child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def proxy_lives(self, pid=None):
        """The one that was started with the farm."""
        try:
            return Path(f"/proc/{pid or self.proxy_pid}/comm").read_text().startswith("megalith-proxy")
        except OSError:
            return False

    def check_alive(self):
        """LabError when the proxy has ended meanwhile: its controller starts it again, so that
        tests may not notice."""
        if self.direct or self._find_proxy() == self.proxy_pid:
            return
        before = self.proxy_pid
        wait_until(lambda: self._find_proxy(), "the proxy is started again", 10)
        self.proxy_pid = self._find_proxy()
        wait_until(self._answers, "the router serves again", 10)
        raise LabError(f"megalith-proxy (pid {before}) ended:\n{self.controller.log()[-3000:]}")

    def _end_proxy(self):
        """It is the controller's child and ends with it."""
        pid = getattr(self, "proxy_pid", None)
        if not pid:
            return []
        proc = Path(f"/proc/{pid}/comm")

        def gone():
            try:
                return not proc.read_text().startswith("megalith-proxy")
            except OSError:
                return True
        try:
            wait_until(gone, "the proxy ends with its controller", 5)
        except LabError as error:
            os.kill(pid, signal.SIGKILL)
            return [str(error)]
        return []

    def _processes(self):
        found = [self.controller] if self.controller else []
        for node in self.nodes.values():
            found += getattr(node, "processes", [])
        return found

    # --- configuration --------------------------------------------------------------------

    def config(self):
        """A copy of the caller's own."""
        return copy.deepcopy({
            "gateway": {"interfaces": ["lo"], "addresses": ["127.0.0.1"], "datapath": "none"},
            "router": {"listen": "%s:%d" % self.router, **self.settings},
            "admin": {"listen": "%s:%d" % self.admin},
            "probe": PROBE,
            "nodes": self.specs, "personas": self.personas, "models": self.aliases,
        })

    def write_config(self, document=None):
        part = self.dir / "megalith.json.part"
        part.write_text(json.dumps(document or self.config(), indent=2) + "\n")
        part.rename(self.config_path)

    @contextlib.contextmanager
    def _written(self, document, mark):
        """Another configuration, meanwhile. The alias `mark` tells when it is in force."""
        self.write_config(document)
        self.ctl("reload")
        try:
            self.wait_model(mark)
            yield
        finally:
            self.write_config()
            self.ctl("reload")
            self.wait_model(mark, there=False)

    @contextlib.contextmanager
    def configured(self, **router):
        """Other settings of the router, meanwhile."""
        mark = f"mark-{random.randrange(1 << 32):08x}"
        document = self.config()
        document["router"].update(router)
        document["models"][mark] = next(iter(self.aliases))
        with self._written(document, mark):
            yield

    @contextlib.contextmanager
    def aliased(self, **aliases):
        """More aliases, meanwhile."""
        document = self.config()
        document["models"].update(aliases)
        with self._written(document, next(iter(aliases))):
            yield

    def port(self, persona, service="llm"):
        return self.personas[persona]["listen"][service]

    # --- nodes ----------------------------------------------------------------------------

    def set(self, node, **settings):
        self.nodes[node].set(**settings)

    def stats(self, node, service=None):
        return self.nodes[node].stats(service)

    def stop(self, node):
        self.nodes[node].stop()

    def start(self, node):
        self.nodes[node].start()

    def simulated(self):
        return [node for node in self.nodes.values() if node.name not in SCRIPTED]

    # --- gateway --------------------------------------------------------------------------

    def control(self, method, path):
        """The control API, as megalithctl asks it."""
        connection = http.client.HTTPConnection("megalithd", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        try:
            connection.sock.connect(str(self.run_dir / "control.sock"))
            connection.request(method, path)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise LabError(f"{method} {path}: {answer.status} {text[:300]}")
        return text

    def status(self):
        return json.loads(self.control("GET", "/v1/status"))

    def metrics(self):
        """NAME → [(labels, value)]. What the router counts is asked of itself: the controller hears
        of it with the next report."""
        found = samples(self.control("GET", "/metrics"))
        found = {name: rows for name, rows in found.items() if not name.startswith("megalith_http_")}
        return found | samples(self._ask_router("/metrics")[1])

    def metric(self, name, **labels):
        """Sum over the rows that have these labels."""
        return sum(value for row, value in self.metrics().get(name, [])
                   if labels.items() <= row.items())

    def ctl(self, *argv, check=True):
        done = subprocess.run([self.bin / "megalithctl", "--run-dir", self.run_dir, *argv],
                              capture_output=True, text=True, timeout=20)
        if check and done.returncode:
            raise LabError(f"megalithctl {' '.join(argv)}: {done.stderr.strip()}")
        return done

    def services(self):
        """(node, service, what status says of it), all of them"""
        return [(node["name"], name, service) for node in self.status()["nodes"]
                for name, service in node["services"].items()]

    def healthy(self):
        return all(service["up"] for _, _, service in self.services())

    def wait_for(self, condition, what, seconds=5):
        return wait_until(condition, what, seconds, 0.005)

    def wait_down(self, node):
        """The controller knows that it is gone. To be there again is what calm() waits for."""
        self.wait_for(lambda: not any(s["up"] for n, _, s in self.services() if n == node),
                      f"{node} is known to be down")

    def wait_active(self, *names_and_count):
        *names, count = names_and_count
        self.wait_for(lambda: sum(self.stats(n)["active"] for n in names) == count,
                      f"{count} active on {' '.join(names)}")

    def wait_model(self, name, there=True):
        """The router has heard of it."""
        def known():
            return (self._ask_router(f"/v1/models/{name}")[0] == 200) == there
        self.wait_for(known, f"the router knows {name}: {there}")

    def busy(self, node, service=None):
        return sum(s["busy"] for n, name, s in self.services()
                   if n == node and service in (None, name))

    def rss_kib(self):
        """Memory of the proxy that nobody shares."""
        for line in Path(f"/proc/{self.proxy_pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Dirty:",)):
                return int(line.split()[1])
        raise LabError("no Private_Dirty in smaps_rollup")

    # --- between tests --------------------------------------------------------------------

    def in_progress(self):
        """What is still counted, in words; an empty list when all slots are back."""
        found = [node.idle() for node in self.simulated() if node.alive()]
        if not self.direct:
            found += [f"{node}/{name}: busy {service['busy']}"
                      for node, name, service in self.services() if service["busy"]]
        return [text for text in found if text]

    def wait_idle(self, seconds=2.0):
        """All slots back to zero, on the nodes and in the gateway's books."""
        deadline = time.monotonic() + seconds
        while found := self.in_progress():
            if time.monotonic() > deadline:
                raise LabError("slots that did not come back: " + "; ".join(found))
            time.sleep(0.005)

    def _settle(self):
        """What a test has made the router say of nodes has reached the controller: else it is the
        next test that finds them suspect."""
        def told():
            return failures(samples(self.control("GET", "/metrics"))) >= now
        now = failures(samples(self._ask_router("/metrics")[1]))
        if now != self.seen_failures:
            with contextlib.suppress(LabError):  # what was counted is no promise of a report
                wait_until(told, "the report", 1.2, 0.005)
        self.seen_failures = now

    def calm(self):
        """Faults off, all nodes there and known to be."""
        for node in self.nodes.values():
            node.calm()
        if not self.direct:
            self._settle()
            wait_until(lambda: self.healthy() and self.nodes_up() == self.full,
                       "all nodes up again", 10, 0.005)

    def logs(self):
        return "".join(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}"
                       for path in sorted(self.log_dir.glob("*")) if path.stat().st_size)

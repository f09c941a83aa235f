# SPDX-License-Identifier: Apache-2.0
"""brass-director and brass-agent on a host of a topology, each with a directory of its own.

Keyword arguments are the keys of the configuration file; None takes a default away.
"""

import json
import os
import signal

from topology import BUILD, LabError, endpoint, wait_for


class Daemon:
    binary = None

    def __init__(self, host, config, start=True):
        self.host = host
        self.name = os.path.basename(self.binary)
        self.config = {key: value for key, value in config.items() if value is not None}
        self.file = os.path.join(self.directory, self.name + ".yaml")
        self.process = None
        self._logs = []
        host.topology.daemons.append(self)
        self.configure()
        if start:
            self.start()

    def configure(self, **changes):
        """Writes the configuration file, with changes; the daemon reads it at its next start. JSON is YAML."""
        self.config.update(changes)
        with open(self.file, "w") as f:
            json.dump(self.config, f, indent=1)

    def launch(self):
        """Starts the daemon without waiting for anything."""
        if not os.path.exists(self.binary):
            raise LabError(f"{self.binary} is missing: build it first")
        self.process = self.host.start(self.binary, "-c", self.file)
        self._logs.append(self.process)
        return self.process

    def start(self):
        self.launch()
        wait_for(lambda: self.ready() or not self.process.running(), 10, f"{self.name} on {self.host.name} is ready")
        if not self.process.running():
            raise LabError(f"{self.name} on {self.host.name}: exit code {self.process.wait()}\n{self.process.output()}")

    def ready(self):
        raise NotImplementedError

    def stop(self):
        """SIGTERM; returns the exit code."""
        return self.process.stop()

    def kill9(self):
        self.process.signal(signal.SIGKILL)
        return self.process.wait()

    def restart(self):
        if self.process.running():
            self.stop()
        self.start()

    def log(self):
        """Of every start."""
        return "".join(process.output() for process in self._logs)


class Director(Daemon):
    binary = os.path.join(BUILD, "director", "brass-director")

    def __init__(self, host, start=True, **config):
        self.directory = host.directory("director")
        self.store = os.path.join(self.directory, "director.db")
        listen = [endpoint(a, 4672) for a in (host.v4 or host.v6, "127.0.0.1")]
        super().__init__(host, {"listen": listen, "insecure": True, "store": self.store, **config}, start)

    @property
    def url(self):
        return "http://" + self.config["listen"][0]

    def ready(self):
        try:
            return self.host.api("GET", "/healthz", timeout=2)[0] == 200
        except OSError:
            return False

    def api(self, method, path, body=None, **options):
        return self.host.api(method, path, body, **options)

    def make(self, path, **fields):
        """PUT that must succeed: make("web", host=..., port=80), make("web/r1", host=...). Returns the object."""
        status, answer = self.api("PUT", f"/service/{path}", fields)
        assert status == 200, (path, status, answer)
        return answer

    def get(self, path, **options):
        status, answer = self.api("GET", path, **options)
        assert status == 200, (path, status, answer)
        return answer


class Agent(Daemon):
    binary = os.path.join(BUILD, "agent", "brass-agent")

    def __init__(self, host, directors=(), backends=None, start=True, **config):
        self.directory = host.directory("agent")
        # few tests have a program behind the service, and most are not about it
        backends = backends and {name: {"check": "none", **(b or {})} for name, b in backends.items()}
        urls = [d.url if isinstance(d, Director) else d for d in directors]
        defaults = {
            "node": host.name,
            "address": host.v4,
            "directors": urls or None,
            "insecure": True,
            "backends": backends,
            "run_dir": os.path.join(self.directory, "run"),
        }
        super().__init__(host, {**defaults, **config}, start)

    def command(self, *words, check=True):
        return self.host.run(self.binary, "-c", self.file, *words, check=check)

    def status(self):
        """What `brass-agent status --json` says; None while the agent cannot be asked."""
        done = self.command("status", "--json", check=False)
        try:
            return json.loads(done.stdout) if done.returncode == 0 else None
        except ValueError:
            return None

    def ready(self):
        return self.status() is not None

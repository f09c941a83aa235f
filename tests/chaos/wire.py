# SPDX-License-Identifier: Apache-2.0
"""A director in this network namespace, and several kept connections to it.

A wave is one request on each of several connections, all sent before the first answer is read: the director finds them
together in one turn of its loop.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time

PORT = 4672
CONNECTIONS = 8
START_S = 30
ANSWER_S = 30


class Failure(Exception):
    """The director broke a promise."""


def fresh_namespace():
    """Puts this process into a network namespace of its own, with lo up."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        raise OSError(ctypes.get_errno(), "unshare: run this with scripts/chaos, or in scripts/lab")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Lost(Exception):
    """The connection ended before the answer was whole."""


def unchunk(data):
    """The body of a chunked answer (RFC 9112 section 7.1), None while it is not all there."""
    body = b""
    while True:
        size, found, rest = data.partition(b"\r\n")
        if not found:
            return None
        length = int(size.split(b";")[0], 16)
        if len(rest) < length + 2:
            return None
        if not length:
            return body
        body += rest[:length]
        data = rest[length + 2 :]


class Connection:
    def __init__(self):
        self._socket = socket.create_connection(("127.0.0.1", PORT), timeout=ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self._socket.close()

    def send(self, verb, path, body=None):
        if body is None:
            data = b"%s %s HTTP/1.1\r\nHost: d\r\n\r\n" % (verb.encode(), path.encode())
        else:
            text = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
            data = b"%s %s HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n%s" % (verb.encode(), path.encode(), len(text), text)
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # reading says so

    def _more(self):
        more = self._socket.recv(262144)
        if not more:
            raise Lost
        return more

    def receive(self):
        """(status, body) or Lost."""
        data = b""
        try:
            while True:
                head, found, body = data.partition(b"\r\n\r\n")
                if found:
                    lower = head.lower()
                    if b"transfer-encoding: chunked" in lower:
                        whole = unchunk(body)
                        if whole is not None:
                            return int(head[9:12]), whole
                        data += self._more()
                        continue
                    at = lower.find(b"content-length:")
                    length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                    if len(body) >= length:
                        return int(head[9:12]), body
                data += self._more()
        except (ConnectionResetError, BrokenPipeError):
            raise Lost from None
        except TimeoutError:
            raise Failure(f"no answer within {ANSWER_S} s") from None


class Director:
    def __init__(self, binary, directory, faults=None, **config):
        self.store = os.path.join(directory, "director.db")
        self.log_path = os.path.join(directory, "director.log")
        self._binary, self._file, self._faults = binary, os.path.join(directory, "director.yaml"), faults
        self.process, self.connections, self.starts = None, [], 0
        with open(self._file, "w") as f:
            json.dump({"listen": f"127.0.0.1:{PORT}", "store": self.store, "log_level": "warning", **config}, f)

    def launch(self):
        environment = {**os.environ, **(self._faults.environment() if self._faults else {})}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self._binary, "-c", self._file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.starts += 1

    def connect(self):
        """Waits until the director serves."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                first = Connection()
                first.send("GET", "/healthz")
                if first.receive()[0] == 200:
                    break
                first.close()
            except (ConnectionRefusedError, Lost):
                pass
            if self.process.poll() is not None:
                raise Failure(f"the director does not start: exit code {self.process.returncode}")
            if time.monotonic() > deadline:
                raise Failure(f"the director does not serve within {START_S} s")
            time.sleep(0.002)
        self.connections = [first] + [Connection() for _ in range(CONNECTIONS - 1)]

    def start(self):
        self.launch()
        self.connect()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=20):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"the director does not stop within {timeout} s") from None

    def disconnect(self):
        for connection in self.connections:
            connection.close()
        self.connections = []

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.disconnect()

    def send(self, requests):
        """One request on each connection."""
        for connection, request in zip(self.connections, requests):
            connection.send(request["verb"], request["path"], request.get("raw", "").encode() or request.get("body"))

    def receive(self, count):
        """[(status, body)] of the last wave; status None: the connection was lost before the answer."""
        answers = []
        for connection in self.connections[:count]:
            try:
                answers.append(connection.receive())
            except Lost:
                answers.append((None, b""))
        return answers

    def get(self, path):
        """(status, JSON)"""
        self.connections[0].send("GET", path)
        status, body = self.connections[0].receive()
        return status, json.loads(body)

    def log(self, lines=40):
        with open(self.log_path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])

"""A real `imagelake receive` in a process of its own, and requests to it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import imagelake


@dataclass
class Receiver:
    """A running receiver: its process, what it said first, and the folder of its lake."""

    process: subprocess.Popen
    said: dict
    lake: Path

    @property
    def where(self):
        parts = urlsplit(self.said["listening"])
        return parts.hostname, parts.port

    def request(self, method, path, body=None, headers=None):
        """Status, headers and JSON of the answer to one request."""
        with contextlib.closing(http.client.HTTPConnection(*self.where, timeout=60)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), json.loads(answer.read())

    def post(self, body, query="", **headers):
        """The same for a picture as the body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", f"/images{query}", body, {"Content-Type": "image/jpeg"} | named)

    def post_form(self, *parts, **headers):
        """The same for a form: parts are `(name, text)` or `(name, bytes)`, the latter files."""
        body = b""
        for name, value in parts:
            file = "; filename=a.jpg" if isinstance(value, bytes) else ""
            data = value if isinstance(value, bytes) else value.encode()
            body += f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=edge"}
        return self.request("POST", "/images", body + b"--edge--\r\n", kind | headers)

    def health(self):
        return self.request("GET", "/health")[2]

    def stop(self, number=signal.SIGTERM):
        """End it; returns exit code, the last line of output as JSON where there is one, and the notes."""
        self.process.send_signal(number)
        out, notes = self.process.communicate(timeout=60)
        lines = out.splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else None, notes

    def opened(self):
        return imagelake.open(self.lake)


@contextlib.contextmanager
def receivers(folder):
    """Gives a function that starts receivers; those that still run at the end are killed."""
    with contextlib.ExitStack() as stack:

        def start(*words, lake=None, **environment):
            lake = lake or folder / "t.lake"
            command = [sys.executable, "-m", "imagelake", "receive", "--lake", str(lake), "--port", "0", "--json"]
            before = {name: value for name, value in os.environ.items() if name != "IMAGELAKE_API_KEY"}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen([*command, *words], env=before | environment, **pipes))
            stack.callback(process.kill)
            line = process.stdout.readline()
            assert line, process.communicate(timeout=60)[1]
            return Receiver(process, json.loads(line), lake)

        yield start


@pytest.fixture
def receive(tmp_path):
    """Starts receivers for one test."""
    with receivers(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One receiver for all tests of a file that leave nothing behind."""
    with receivers(tmp_path_factory.mktemp("shared")) as start:
        yield start()

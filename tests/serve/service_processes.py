"""Services in threads and in processes, and a web server of a few files, for the tests of services and functions."""

import contextlib
import io
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

from imagelake.cli import main
from imagelake.serve.graphpipe_client import AskOptions
from imagelake.serve.listening import address_of, listen
from imagelake.serve.next_hop import find_next_hop
from imagelake.serve.plane import Plane
from imagelake.serve.service_process import ProcessOptions, service_server
from imagelake.serve.services import load_service

COMMAND = [sys.executable, "-m", "imagelake"]


@dataclass
class Done:
    """How a verb ended."""

    returncode: int
    stdout: str
    stderr: str


def run_verb(*words):
    """Run a verb to its end, in this process: most of what a process of its own takes is its start."""
    said, noted = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(noted),
        mock.patch.object(sys, "argv", ["imagelake", *map(str, words)]),
    ):
        try:
            main.run()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, said.getvalue(), noted.getvalue())


@contextlib.contextmanager
def hosted(kind, options, next_url=None, keys=None, asking=None):
    """A service in a thread of this process; gives its address."""
    with listen("127.0.0.1", 0) as listening, Plane() as plane:
        load_service(kind, plane, options, find_next_hop(next_url, asking or AskOptions(), 30) if next_url else None)
        server = service_server(plane, listening, ProcessOptions("", keys))
        started = threading.Event()
        thread = threading.Thread(target=server.run, args=(lambda _: started.set(),))
        thread.start()
        try:
            assert started.wait(30)
            yield address_of(listening)
        finally:
            server.stop(at_once=True)
            thread.join(30)
            assert not thread.is_alive()


@contextlib.contextmanager
def started(*words, **options):
    """Start a verb; killed at the end, if it still runs."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, *map(str, words)], **pipes, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def web_files(files, asked=None):
    """A web server that has these files, by path; a file that is an Event answers when it is set. Gives its address.

    The paths that are asked for go to the list `asked`.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if asked is not None:
                asked.append(self.path)
            found = files.get(self.path)
            if isinstance(found, threading.Event):
                found.wait(30)
                found = b"late"
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(found or b"")

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            for found in files.values():
                if isinstance(found, threading.Event):
                    found.set()
            server.shutdown()
            thread.join()

"""Processes of the command line, and a web server of a few files, for the tests of services and functions."""

import contextlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_VERBS = (
    "from imagelake.cli import classify, function, main, service\n"
    "known = {g.name for g in main.app.registered_groups}\n"
    "known |= {c.callback.__name__ for c in main.app.registered_commands}\n"
    "[m.register(main.app) for m in (function, service, classify) if m.__name__.split('.')[-1] not in known]\n"
    "main.run()"
)
COMMAND = [sys.executable, "-c", _VERBS]


def run_verb(*words, **options):
    """Run a verb to its end."""
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=120, **options)


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

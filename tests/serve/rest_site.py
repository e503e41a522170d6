"""A real server of a small lake and the default models, for the tests of the REST interface."""

import contextlib
import http.client
import json
import threading
from dataclasses import dataclass

from imagelake.run.lake_view import open_lake_view
from imagelake.serve import openapi, rest
from imagelake.serve.app import build_app
from imagelake.serve.downloads import DownloadOptions
from imagelake.serve.guard import GuardOptions
from imagelake.serve.listening import listen
from imagelake.serve.plane import Plane
from imagelake.serve.server import HttpServer, ServerOptions
from imagelake.serve.site import Limits, Site

EDGE = "edge"


@dataclass
class Server:
    """A server that runs."""

    site: Site
    where: tuple

    @property
    def address(self):
        return f"http://{self.where[0]}:{self.where[1]}"

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of the answer to one request."""
        with contextlib.closing(http.client.HTTPConnection(*self.where[:2], timeout=60)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def post(self, path, body=b"", kind="image/jpeg", **headers):
        """Status and JSON of the answer to a body."""
        status, told, answer = self.ask("POST", path, body, {"Content-Type": kind} | headers)
        assert told["content-type"] == "application/json"
        return status, json.loads(answer)

    def post_json(self, path, **fields):
        return self.post(path, json.dumps(fields).encode(), "application/json")

    def post_form(self, path, *parts):
        """Parts are (name, text) or (name, bytes), or (name, bytes, file name)."""
        body = b""
        for name, value, *file in parts:
            told = f'; filename="{file[0] if file else "a.jpg"}"' if isinstance(value, bytes) else ""
            data = value if isinstance(value, bytes) else value.encode()
            body += f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'.encode()
            body += data + b"\r\n"
        return self.post(path, body + f"--{EDGE}--\r\n".encode(), f"multipart/form-data; boundary={EDGE}")

    def get(self, path):
        """Status and JSON."""
        status, _, answer = self.ask("GET", path)
        return status, json.loads(answer)


@contextlib.contextmanager
def serving(lake, models=(), limits=None, options=None, *, allow_private=False):
    """A server of a lake, or of none, and of models."""
    limits = limits or Limits()
    with contextlib.ExitStack() as stack:
        view = None
        if lake is not None:
            view = open_lake_view(lake.tables, default=lake.default_model(), max_pixels=limits.max_pixels)
            stack.callback(view.close)
        plane = stack.enter_context(Plane())
        for model in models:
            plane.load(model, warm_up=False)
        site = Site(plane, limits, lake=view)
        extra = rest.routes(site, DownloadOptions(allow_private=True, in_flight=1)) if allow_private else []
        listening = listen("127.0.0.1", 0)
        app = build_app(site, options or GuardOptions(), [*extra, *rest.routes(site), *openapi.routes(site)])
        server = HttpServer(app, listening, site.lifecycle, ServerOptions(drain_s=0))
        started = threading.Event()
        thread = threading.Thread(target=server.run, args=[lambda _: started.set()])
        running = Server(site, listening.getsockname())
        thread.start()
        try:
            assert started.wait(30)
            yield running
        finally:
            server.stop()
            thread.join(60)
            assert not thread.is_alive()

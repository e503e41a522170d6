"""A real server of GraphPipe in this process, on a free port, with small models behind it."""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import uvicorn
from serve.graphpipe_messages import strings
from starlette.applications import Starlette

from imagelake.errors import ModelError
from imagelake.serve.batch_options import BatchOptions
from imagelake.serve.graphpipe_http import routes
from imagelake.serve.plane import Plane
from imagelake.serve.site import Limits, Site
from imagelake.serve.tensor_info import TensorInfo


@dataclass(frozen=True)
class Model:
    """A model made of a function of arrays by name."""

    name: str
    function: object
    inputs: tuple
    outputs: tuple
    version: str = "1"
    platform: str = "python"
    description: str = ""
    labels: tuple = ()
    task: str = "function"
    max_batch: int = 0
    fingerprint: str = ""
    seen: list = field(default_factory=list)

    def run(self, inputs, outputs):
        self.seen.append(inputs)
        found = self.function(inputs)
        return {name: found[name] for name in outputs}

    def close(self):
        """Nothing is held."""


def multiply(inputs):
    x = inputs["x"] * np.float32(inputs["by"][0] if "by" in inputs else 2)
    return {"y": x, "positive": x > 0}


def shout(inputs):
    return {"words": strings(*(word.upper() for word in inputs["words"]))}


def fail(inputs):
    raise ZeroDivisionError("what is secret")


def refuse(inputs):
    raise ModelError("cannot do that")


WORDS = (TensorInfo("words", "object", (-1,)),)
X = TensorInfo("x", "float32", (-1, 3), "rows")
MODELS = (
    Model(
        "multiply", multiply, (X, TensorInfo("by", "float64", (1,), optional=True)),
        (TensorInfo("y", "float32", (-1, 3), "twice"), TensorInfo("positive", "bool", (-1, 3))),
        version="7", description="doubles",
    ),
    Model("shout", shout, WORDS, WORDS),
    Model("flags", lambda inputs: {"n": inputs["on"].sum(keepdims=True)}, (TensorInfo("on", "bool", (-1,)),),
          (TensorInfo("n", "int64", (1,)),)),
    Model("fail", fail, WORDS, WORDS),
    Model("refuse", refuse, WORDS, WORDS),
    Model("slow", lambda inputs: time.sleep(0.3) or inputs, WORDS, WORDS),
)  # fmt: skip


@dataclass
class Server:
    """A running server."""

    url: str
    plane: Plane

    @property
    def where(self):
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)


@contextlib.contextmanager
def served(*models, limits=None, options=None, wrap=lambda app: app):
    """A server of these models, or of all of this file."""
    with Plane() as plane:
        for model in models or MODELS:
            plane.load(model, options or BatchOptions(instances=1))
        app = wrap(Starlette(routes=routes(Site(plane, limits or Limits()))))
        with running(app) as url:
            yield Server(url, plane)


@contextlib.contextmanager
def running(app):
    """An ASGI application on a free port; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield "http://{}:{}".format(*listening.getsockname())
    finally:
        server.should_exit = True
        thread.join()
        listening.close()

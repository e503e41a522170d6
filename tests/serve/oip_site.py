"""Small models, and a real server of the Open Inference Protocol on a free port."""

import contextlib
import http.client
import json
import socket
import threading
import time

import uvicorn

from imagelake.errors import ImagelakeError, NotServedError
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.registry import Registry
from imagelake.serve.app import build_app
from imagelake.serve.oip_types import DTYPES
from imagelake.serve.plane import Plane
from imagelake.serve.served_models import open_served
from imagelake.serve.site import Limits, Site
from imagelake.serve.tensor_info import TensorInfo
from small_models import SIDE, save_map

COLORS = ("red", "green", "blue")


class Model:
    """What every model has, and a function that runs it."""

    platform, description, version, labels, task = "test", "of a test", "1", (), "tensors"

    def __init__(self, name, inputs, outputs, function, **others):
        self.name, self.inputs, self.outputs, self.function = name, tuple(inputs), tuple(outputs), function
        self.fingerprint, self.max_batch = name, 8
        self.closed = False
        vars(self).update(others)

    def run(self, inputs, outputs):
        given = self.function(dict(inputs))
        return {name: given[name] for name in outputs}

    def close(self):
        self.closed = True


def echo(datatype, name=None):
    """Gives what it takes, of one type: `x` [-1, -1] becomes `y`."""
    dtype = DTYPES[datatype].name
    tensors = [TensorInfo("x", dtype, (-1, -1))], [TensorInfo("y", dtype, (-1, -1))]
    return Model(name or f"echo-{datatype}", *tensors, lambda inputs: {"y": inputs["x"]})


def add():
    """Two inputs, two outputs, no batch: the sum and the difference of integers of shape [-1]."""
    tensors = [TensorInfo("a", "int32", (-1,)), TensorInfo("b", "int32", (-1,))]
    given = [TensorInfo("sum", "int32", (-1,)), TensorInfo("difference", "int32", (-1,))]

    def run(inputs):
        if inputs["a"].shape != inputs["b"].shape:
            raise ImagelakeError("a and b differ in length")
        return {"sum": inputs["a"] + inputs["b"], "difference": inputs["a"] - inputs["b"]}

    return Model("add", tensors, given, run, max_batch=0)


def colors(folder):
    """A classifier of the brightest channel: `x` float32 [-1, 3, SIDE, SIDE] or encoded pictures."""
    path = save_map(folder / "colors.onnx")
    manifest = FileManifest(
        name="colors",
        task="classifier",
        runtime="onnx",
        files={"model": path.name},
        inputs=(TensorSpec(name="x", shape=(-1, 3, SIDE, SIDE), layout="nchw"),),
        transforms=({"resize": [SIDE, SIDE]}, {"layout": "chw"}, {"dtype": "float32"}),
        head={},
        outputs=("color",),
        labels=COLORS,
    )
    return open_served(Registry(folder / "models").add(manifest, {"model": path}, replace=True))


def open_model(name):
    """Opens `late`, and nothing else."""
    if name != "late":
        raise NotServedError(f"There is no model {name!r} to load; there is late.")
    return echo("FP32", "late")


class Served:
    """A running server: its plane, and requests to it."""

    def __init__(self, plane, port):
        self.plane, self.port = plane, port
        self.address = f"127.0.0.1:{port}"

    def request(self, method, path, body=None, headers=None):
        """Status, headers and body of the answer to one request."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()

    def json(self, method, path, body=None, headers=None):
        """Status and JSON of the same; a body that is no bytes is sent as JSON."""
        sent = body if isinstance(body, bytes | None) else json.dumps(body)
        status, _, text = self.request(method, path, sent, headers)
        return status, json.loads(text)


@contextlib.contextmanager
def serving(*models, limits=None, may_load=True):
    """A server of these models, until the end of the block."""
    with Plane() as plane, socket.create_server(("127.0.0.1", 0)) as listening:
        for model in models:
            plane.load(model)
        loadable = (lambda: ("late",)) if may_load else tuple
        site = Site(plane, limits or Limits(), open_model=open_model if may_load else None, loadable=loadable)
        config = uvicorn.Config(build_app(site), log_level="warning", lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Served(plane, listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()

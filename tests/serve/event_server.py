"""A real `imagelake events` in a process of its own, a tiny classifier for it, and pictures that say where they are."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from serve import event_examples as examples

import imagelake
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.registry import Registry
from imagelake.serve.event_store import Journal
from pictures import save
from small_models import SIDE, save_map

LABELS = ("red", "green", "blue")


def add_colors(folder):
    """A classifier of the brightest channel of a plain picture. Returns the registered model."""
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
        labels=LABELS,
    )
    return Registry(folder / "models").add(manifest, {"model": path}, replace=True)


def photo(color, *, gps=True, seed=0):
    """A JPEG of one color, taken at 33.51 S, 151.21 E on 2024-06-01 12:30 (+10:00) with a camera."""
    image = Image.fromarray(np.full((40, 60, 3), color, np.uint8))
    image.putpixel((seed % 60, seed // 60), (1, 2, 3))
    exif = image.getexif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 7"
    exif.get_ifd(0x8769).update({0x9003: "2024:06:01 12:30:00", 0x9011: "+10:00"})
    if gps:
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 36.0), 3: "E", 4: (151.0, 12.0, 36.0)})
    return save(image, "JPEG", exif=exif, quality=95)


@dataclass
class EventServer:
    """A running server: its process, what it said first, and the folder of its lake."""

    process: subprocess.Popen
    said: dict
    lake: Path
    before: dict = field(default_factory=dict)

    def request(self, method, path, body=None, headers=None):
        """Status and JSON of the answer to one request; a text is its `error`."""
        parts = urlsplit(self.said["listening"])
        with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(text) if is_json else {"error": text}

    def post(self, told, **headers):
        """The same for events."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = told if isinstance(told, bytes) else examples.body(told)
        return self.request("POST", "/events", body, {"Content-Type": "application/json"} | named)

    def health(self):
        return self.request("GET", "/health")[1]

    def settle(self):
        """Wait until no event waits; returns how many are in which state, since `before`."""
        deadline = time.monotonic() + 60
        while (states := self.health()["events"])["waiting"]:
            assert time.monotonic() < deadline, states
            time.sleep(0.02)
        return {state: count - self.before.get(state, 0) for state, count in states.items()}

    def stop(self, number=signal.SIGTERM):
        """End it; returns exit code, the last line of output as JSON where there is one, and the notes."""
        self.process.send_signal(number)
        out, notes = self.process.communicate(timeout=60)
        lines = out.splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else None, notes

    def journal(self):
        """Its journal, as another process sees it."""
        return contextlib.closing(Journal(self.lake / "events"))

    def rows(self, part=""):
        """The predictions of objects whose address has that part, in the order of their addresses."""
        rows = imagelake.open(self.lake).sql("select * from predictions order by uri, event_id").to_pylist()
        return [row for row in rows if part in row["uri"]]


@contextlib.contextmanager
def event_servers(folder):
    """Gives a function that starts servers; those that still run at the end are killed."""
    with contextlib.ExitStack() as stack:
        if not (folder / "models").exists():
            add_colors(folder)

        def start(*words, lake=None, quick=True, **environment):
            lake = lake or folder / "t.lake"
            command = [sys.executable, "-m", "imagelake", "events", "--lake", str(lake), "--listen", "127.0.0.1:0"]
            command += ["--json", "--model", "colors", "--models", str(folder / "models")]
            if quick:
                command += ["--commit-s", "0.05", "--first-pause-s", "0.02"]
            before = {name: value for name, value in os.environ.items() if name != "IMAGELAKE_API_KEY"}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen([*command, *words], env=before | environment, **pipes))
            stack.callback(process.kill)
            line = process.stdout.readline()
            assert line, process.communicate(timeout=60)[1]
            return EventServer(process, json.loads(line), lake)

        yield start

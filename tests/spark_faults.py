"""Steps that go wrong the first time, on workers too; importable there by its name."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from imagelake.errors import LakeFullError
from imagelake.steps.extract import ExtractPictures


@dataclass(frozen=True)
class Faulty:
    """An extraction that goes wrong as `how` says, once for each id that begins with a letter of `at`.

    Attributes:
        inner: what it does else.
        folder: where it notes what went wrong, and what it did.
        how: `raise`, `full`, `kill` (this process), `kill-executor` (its parents, up to the JVM) or `slow`.
        at: the first letters of ids.
    """

    inner: ExtractPictures
    folder: str
    how: str
    at: str = "0123456789abcdef"

    def output_schema(self, schema):
        return self.inner.output_schema(schema)

    def open(self):
        Path(self.folder, f"opened-{os.getpid()}-{time.monotonic_ns()}").touch()
        function = self.inner.open()

        def run(batch):
            for image_id in batch.column("id").to_pylist():
                if image_id[0] in self.at:
                    self._go_wrong(image_id)
            out = function(batch)
            Path(self.folder, f"did-{os.getpid()}-{time.monotonic_ns()}").touch()
            return out

        return run

    def _go_wrong(self, image_id):
        if self.how == "slow":
            time.sleep(0.2)
            return
        try:
            Path(self.folder, f"wrong-{image_id[0]}").touch(exist_ok=False)
        except FileExistsError:
            if self.how != "full":
                return
        if self.how == "raise":
            raise RuntimeError("it goes wrong the first time")
        if self.how == "full":
            raise LakeFullError("No space is left for the test. Free some.")
        if self.how == "kill-executor":
            os.kill(_java_above(os.getpid()), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _java_above(process):
    while True:
        told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        process = int(told[1])
        if Path(f"/proc/{process}/comm").read_text().strip() == "java":
            return process

"""Files given to the real decoders in a child process: what came of each, its time, and its peak memory.

The child works through many files. Where it dies or hangs, that file is written down and another child goes on behind
it. A child is this file run as a program.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

WATCHDOG_S = 120.0
"""A file that takes longer counts as a hang; a hundred times what any file should take."""

GOOD = frozenset({"described", "rejected"})
_STATUS = Path("/proc/self/status")
_LIBRARY_BYTES = 128 << 20
_KNOWN_WORDS = re.compile(
    r"Corrupt JPEG data|Premature end of JPEG|Invalid SOS parameters|Inconsistent progression sequence|"
    r"libpng error: |libpng warning: |Warning: unknown JFIF revision|Unknown Adobe color transform|$"
)
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Outcome:
    """What came of a file.

    `outcome` is `described`, `rejected`, or what must not be: `error`, `warning`, `noise`, `crash` or `hang`; `detail`
    is the reason. `words` is what OpenCV's own libjpeg and libpng wrote to standard error: a line for a damaged file,
    which no setting keeps them from; words of anybody else are `noise`. `pixels` counts those that the header states,
    0 where nobody got so far. `peak_bytes` is how much more memory than at its start the process had meanwhile at most;
    None where the system does not tell.
    """

    key: str
    outcome: str
    detail: str
    words: str = ""
    pixels: int = 0
    cpu_ms: float = 0.0
    peak_bytes: int | None = None

    def memory_allowed(self, file_bytes: int) -> int:
        """How much memory the package promises not to exceed for this file, the libraries' own included."""
        from imagelake.pixels.decode import BYTES_PER_PIXEL

        return _LIBRARY_BYTES + BYTES_PER_PIXEL * self.pixels + 4 * file_bytes


def run_mutants(seed: int, numbers: Sequence[int], watchdog_s: float = WATCHDOG_S) -> Iterator[Outcome]:
    """The outcomes of these files of a seeded run, in order; the key is the number."""
    return _run(["--seed", str(seed)], [str(number) for number in numbers], watchdog_s)


def run_files(paths: Sequence[Path], watchdog_s: float = WATCHDOG_S) -> Iterator[Outcome]:
    """The outcomes of files; the key is the path."""
    return _run([], [str(path) for path in paths], watchdog_s)


def _run(options: list[str], keys: list[str], watchdog_s: float) -> Iterator[Outcome]:
    done = 0
    while done < len(keys):
        for outcome in _one_child(options, keys[done:], watchdog_s):
            done += 1
            yield outcome


def _one_child(options: list[str], keys: list[str], watchdog_s: float) -> Iterator[Outcome]:
    """The outcomes until the child is through or dies; the last one says how it died."""
    command = [sys.executable, __file__, *options]
    with tempfile.TemporaryFile("w+") as wanted:
        wanted.write("".join(f"{key}\n" for key in keys))
        wanted.seek(0)
        with subprocess.Popen(command, stdin=wanted, stdout=subprocess.PIPE, text=True) as child:
            lines: queue.SimpleQueue[str] = queue.SimpleQueue()
            reader = threading.Thread(target=_pass_on, args=(child, lines), daemon=True)
            reader.start()
            count = 0
            try:
                while count < len(keys):
                    line = lines.get(timeout=watchdog_s)
                    if not line:
                        code = child.wait()
                        died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                        yield Outcome(keys[count], "crash", died)
                        return
                    count += 1
                    yield Outcome(**json.loads(line))
            except queue.Empty:
                yield Outcome(keys[count], "hang", f"more than {watchdog_s:.0f} s", cpu_ms=watchdog_s * 1000)
            finally:
                child.kill()
                reader.join()


def _pass_on(child: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    for line in child.stdout or ():
        lines.put(line)
    lines.put("")


def _status_bytes(field: str) -> int | None:
    """A line of /proc/self/status, such as `VmHWM`, in bytes."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _forget_peak() -> None:
    """Set the peak to what is held now, where the system can."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


class _Child:
    """Describes and decodes file after file, and listens for warnings and for words on standard error."""

    def __init__(self) -> None:
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the process)
        os.dup2(self._noise.fileno(), 2)
        self._warned: list[str] = []
        self._start_bytes: int | None = None
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: self._warned.append(f"{category.__name__}: {message}")

    def start(self) -> None:
        """From here on memory is counted."""
        self._start_bytes = _status_bytes("VmRSS")

    def look(self, key: str, data: bytes) -> Outcome:
        """Everything that is done to one file."""
        self._warned.clear()
        _forget_peak()
        began = time.process_time()
        outcome, detail = self._decode(data)
        cpu_ms = (time.process_time() - began) * 1000
        peak = _status_bytes("VmHWM")
        grown = None if self._start_bytes is None or peak is None else max(0, peak - self._start_bytes)
        noise = self._noise_of_this()
        if outcome in GOOD and self._warned:
            outcome, detail = "warning", self._warned[0]
        unknown = [line for line in noise.splitlines() if not _KNOWN_WORDS.match(line)]
        if outcome in GOOD and unknown:
            outcome, detail = "noise", unknown[0]
        return Outcome(key, outcome, detail[:300], noise[:300], self._pixels(data), cpu_ms, grown)

    def _decode(self, data: bytes) -> tuple[str, str]:
        from imagelake.errors import ImageError
        from imagelake.pixels.decode import decode_rgb
        from imagelake.pixels.describe import describe

        try:
            found = describe(data)
            image = decode_rgb(data)
            size = (image.shape[1], image.shape[0])
            if size != (found.width, found.height):
                return "error", f"described as {found.width} x {found.height}, decoded as {size}"
        except ImageError as error:
            return ("rejected", str(error)) if str(error) else ("error", "a rejection without a reason")
        except BaseException as error:  # noqa: BLE001  (that is what is looked for)
            return "error", f"{type(error).__name__}: {error}"
        return "described", found.format

    def _noise_of_this(self) -> str:
        size = os.lseek(2, 0, os.SEEK_END)
        if not size:
            return ""
        words = os.pread(self._noise.fileno(), min(size, 2000), 0).decode("utf-8", "replace")
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        return words

    def _pixels(self, data: bytes) -> int:
        from imagelake.pixels.decode import open_picture

        try:
            picture = open_picture(data)
        except BaseException:  # noqa: BLE001  (it has been counted)
            return 0
        return picture.width * picture.height


def main() -> None:
    """Read keys from standard input and write an outcome for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    from mutations import mutant
    from seed_pictures import seed_pictures

    pictures = seed_pictures()
    child = _Child()
    for data in pictures.values():  # every library is loaded before anything is measured
        child.look("", data)
    child.start()
    for line in sys.stdin:
        key = line.rstrip("\n")
        data = Path(key).read_bytes() if options.seed is None else mutant(options.seed, int(key), pictures).data
        out.write(json.dumps(asdict(child.look(key, data))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()

"""What 100 million and 10 billion pictures cost: core-hours, storage, commits and memory, from measured rates.

With `--measure`, the rates are measured here on a small sample, in processor seconds, so that other work on the machine
does not count; without, they are read from docs/scaling-rates.json. `--rates PATH` reads others, `--save PATH` keeps
what was used.

    python benchmarks/scaling.py [--small] [--json PATH] [--measure] [--rates PATH] [--save PATH]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import SHARED, machine, report

import imagelake
from imagelake import schema
from imagelake.lake.staged import commit_staged, mark_of, stage
from imagelake.lake.tables import open_tables
from imagelake.models.adding import add_files
from imagelake.models.detector import Detector, open_detector
from imagelake.models.embedder import open_embedder, settle_default
from imagelake.models.guess import Answers
from imagelake.models.registry import Registry
from imagelake.models.subject import open_subject
from imagelake.pixels.decode import decode_rgb
from imagelake.run.commits import CommitSize
from imagelake.run.pieces import PieceSize
from imagelake.run.receipts import Counts, new_run, write_receipt
from pictures import pictures

KEPT = Path(__file__).parents[1] / "docs" / "scaling-rates.json"
DIMENSIONS, CODE_BITS, ID_BYTES = 1280, 64, 64
FRAGMENT_BYTES = 64 << 20  # what small fragments are folded to
COCO = tuple(f"class {number}" for number in range(80))


@dataclass(frozen=True)
class Rates:
    """What one picture costs.

    Attributes:
        picture_bytes: the file.
        ingest_s: processor seconds to read, decode, describe and commit it.
        decode_s: to decode it again for a model, at the size that the model needs.
        detect_s: to prepare it and find boxes in it.
        subject_s: the same with the detector that needs no model file.
        embed_s: to prepare and embed one picture or region.
        write_s: to stage and commit one vector.
        image_row_bytes: what the images table holds besides the file: description and thumbnail.
        region_bytes: one row of the regions table.
        regions: kept for each picture.
        manifest_bytes: what each fragment adds to every later commit of its table.
        commit_s: the driver's seconds for a commit to a table of few fragments.
        fragment_s: what each fragment that is there adds to that.
        receipt_s: writing one receipt; it is appended, so those that are there do not count.
        plan_s: the driver's seconds to see whether a picture is done.
    """

    picture_bytes: float
    ingest_s: float
    decode_s: float
    detect_s: float
    subject_s: float
    embed_s: float
    write_s: float
    image_row_bytes: float
    region_bytes: float
    regions: float
    manifest_bytes: float
    commit_s: float
    fragment_s: float
    receipt_s: float
    plan_s: float


def seconds_each(count: int, work: Callable[[], object]) -> float:
    """Processor seconds for each of so many; all threads count."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / count


def folder_bytes(folder: Path) -> int:
    """All files below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def detector(folder: Path) -> Detector | None:
    """YOLOX-nano; None where its file is not here."""
    path = SHARED / "models" / "yolox_nano.onnx"
    if not path.exists():
        return None
    answers = Answers(head="yolox", labels=COCO, resize="letterbox-top-left", order="bgr", scale=1.0)
    return open_detector(add_files(Registry(folder), [path], answers))


def measure(count: int, fragments: int, folder: Path) -> Rates:
    """Measure all of it on so many pictures."""
    photos = pictures(count, folder / "photos")
    files = [path.read_bytes() for path in sorted(photos.iterdir())]
    lake = imagelake.open(folder / "lake", create=True)
    warm = pictures(4, folder / "warm")
    imagelake.open(folder / "warm.lake", create=True).ingest(warm)
    ingest_s = seconds_each(count, lambda: lake.ingest(photos))
    size = sum(map(len, files)) / count
    rows = folder_bytes(Path(lake.root) / "images.lance") / count - size
    embedder, subject, yolox = open_embedder(settle_default()), open_subject(), detector(folder / "models")
    side = (yolox or subject).min_side
    images = [decode_rgb(data, side) for data in files]

    def embed() -> None:
        embedder.embed(np.stack([embedder.prepare(image) for image in images]))

    def detect(with_: Detector) -> None:
        with_.detect([with_.prepare(image) for image in images])

    subject_s = seconds_each(count, lambda: detect(subject))
    commit_s, fragment_s, manifest = commits(fragments, folder / "commits")
    return Rates(
        picture_bytes=size,
        ingest_s=ingest_s,
        decode_s=seconds_each(count, lambda: [decode_rgb(data, side) for data in files]),
        detect_s=subject_s if yolox is None else seconds_each(count, lambda: detect(yolox)),
        subject_s=subject_s,
        embed_s=seconds_each(count, embed),
        write_s=write(folder / "write"),
        image_row_bytes=rows,
        region_bytes=region(folder / "regions"),
        regions=1.0,
        manifest_bytes=manifest,
        commit_s=commit_s,
        fragment_s=fragment_s,
        receipt_s=receipt(100 * fragments, folder / "receipts"),
        plan_s=plan(),
    )


def vectors(count: int, dimensions: int, first: int = 0) -> pa.Table:
    """Rows of an embedding set."""
    values = np.random.default_rng(first).normal(size=count * dimensions).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values), dimensions)
    return pa.table({"id": pa.array([f"{number:064x}" for number in range(first, first + count)]), "vector": lists})


def write(folder: Path, count: int = 4096) -> float:
    """Processor seconds to stage and commit a vector."""
    table = open_tables(folder, create=True).create_embeddings("measured", schema.embeddings(DIMENSIONS, "{}", ""))
    made = vectors(count, DIMENSIONS)
    return seconds_each(count, lambda: commit_staged(table, [stage(table, made)], mark_of(table)))


def region(folder: Path, count: int = 8192) -> float:
    """Bytes of one row of the regions table."""
    table = open_tables(folder, create=True).regions
    boxes = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(0).random(count * 4, np.float32)), 4)
    names = np.random.default_rng(1).bytes(count * 64).hex()
    made = pa.table(
        {
            "id": pa.array([names[128 * at : 128 * at + 64] for at in range(count)]),
            "image_id": pa.array([names[128 * at + 64 : 128 * at + 128] for at in range(count)]),
            "box_xyxy": boxes,
            "label": pa.array(["a label"] * count),
            "score": pa.array(np.random.default_rng(2).random(count, np.float32)),
            "model": pa.array(["a model"] * count),
            "fingerprint": pa.array(["f" * 64] * count),
        }
    )
    before = folder_bytes(folder)
    commit_staged(table, [stage(table, made)], mark_of(table))
    return (folder_bytes(folder) - before) / count


def commits(fragments: int, folder: Path) -> tuple[float, float, float]:
    """Seconds of a commit to an empty table, what each fragment adds, and the bytes it adds to the list of them."""
    table = open_tables(folder, create=True).create_embeddings("measured", schema.embeddings(8, "{}", ""))
    mark, times = mark_of(table), []
    for turn in range(fragments // 8):
        staged = [stage(table, vectors(4, 8, 4 * (8 * turn + each))) for each in range(8)]
        began = time.process_time()
        mark = commit_staged(table, staged, mark).mark
        times.append(time.process_time() - began)
    few = float(np.median(times[: len(times) // 4 + 1]))
    slope = float(np.polyfit(np.arange(len(times)) * 8.0, times, 1)[0])
    lists = [path.stat().st_size for path in (Path(table.uri) / "_versions").iterdir()]
    return few, max(slope, 0.0), (max(lists) - min(lists)) / fragments


def receipt(there: int, folder: Path, turns: int = 5) -> float:
    """The processor seconds of writing one more receipt."""
    tables, run = open_tables(folder, create=True), new_run("measured")
    tables.receipts.add_columns(schema.RECEIPTS)
    made = pa.table({"id": vectors(there, 1).column("id"), "work": pa.array(["extract"] * there, pa.string())})
    commit_staged(tables.receipts, [stage(tables.receipts, made)], mark_of(tables.receipts))
    began = time.process_time()
    for _ in range(turns):
        write_receipt(tables, "extract", "measured", "", Counts(added=1), 1.0, run)
    return (time.process_time() - began) / turns


def plan(count: int = 200_000) -> float:
    """Seconds to look up one id among others, and to have read it."""
    from imagelake.lake.ids import IdSet

    ids = vectors(count, 1).column("id").combine_chunks()
    return seconds_each(count, lambda: IdSet([ids]).contains(ids))


def human(number: float, unit: str) -> str:
    """A number with k, M, G, T or P before its unit."""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.3g} {prefix}{unit}".strip()
        number /= 1000
    return f"{number:.3g} P{unit}"


def costs(rates: Rates, pictures_: float) -> Iterator[tuple[str, str, str]]:
    """What so many pictures cost: of what, how much, how it comes about."""
    hours = pictures_ / 3600
    extract_s = rates.decode_s + rates.detect_s + rates.regions * (rates.embed_s + rates.write_s)
    for what, each in (
        ("ingest: read, decode, describe, write", rates.ingest_s),
        ("extract: decode", rates.decode_s),
        ("extract: detect", rates.detect_s),
        ("extract: embed", rates.regions * rates.embed_s),
        ("extract: write", rates.regions * rates.write_s),
        ("extract in all", extract_s),
    ):
        yield f"core-hours, {what}", f"{hours * each:,.0f}", f"{1000 * each:.2f} ms a picture"
    yield "hours of extract on 1,000 cores", f"{hours * extract_s / 1000:,.1f}", "and the driver keeps up (below)"
    flow = 8 * 1000 / extract_s * rates.picture_bytes
    yield "reading for 1,000 cores", human(flow, "bit/s"), "size of a picture / seconds of extract"
    regions = pictures_ * rates.regions
    vector_bytes = 4 * DIMENSIONS
    for what, number, each in (
        ("pictures as they are", pictures_, rates.picture_bytes),
        ("description and thumbnail", pictures_, rates.image_row_bytes),
        ("regions", regions, rates.region_bytes),
        ("embeddings, float32", regions, vector_bytes + ID_BYTES),
        ("codes, 64 bit", regions, CODE_BITS / 8),
    ):
        yield f"storage, {what}", human(number * each, "B"), f"{each:,.0f} B each"
    yield from commit_costs(rates, pictures_, (vector_bytes + ID_BYTES) * regions)
    yield from memory_costs(pictures_, regions)


def commit_costs(rates: Rates, pictures_: float, bytes_: float) -> Iterator[tuple[str, str, str]]:
    """What the driver does, with the default sizes of pieces, waves and fragments."""
    wave = CommitSize().max_rows
    waves, pieces = pictures_ / wave, pictures_ / PieceSize().max_rows
    fragments = bytes_ / FRAGMENT_BYTES
    yield "pieces of work, fragments before folding", f"{pieces:,.0f}", f"{PieceSize().max_rows:,} pictures each"
    yield "waves: commits a table, receipts", f"{waves:,.0f}", f"{wave:,} pictures each"
    yield "fragments of the embeddings, folded", f"{fragments:,.0f}", "64 MiB each"
    yield "list of fragments at the end", human(fragments * rates.manifest_bytes, "B"), "rewritten by each commit"
    mean_s = rates.commit_s + rates.fragment_s * fragments / 2
    yield "driver hours, commits of one table", f"{waves * mean_s / 3600:,.2f}", f"{1000 * mean_s:,.0f} ms on average"
    yield "driver hours, receipts", f"{waves * rates.receipt_s / 3600:,.2f}", f"{1000 * rates.receipt_s:,.1f} ms each"
    yield "driver hours, planning", f"{pictures_ * rates.plan_s / 3600:,.2f}", f"{1e6 * rates.plan_s:.1f} us a picture"


def memory_costs(pictures_: float, regions: float) -> Iterator[tuple[str, str, str]]:
    """What has to be in memory at once."""
    vector_bytes = 4 * DIMENSIONS * regions
    yield "memory, planning", human(16 * pictures_, "B"), "16 B for the id of each picture that is done"
    yield "memory, exact index", human(1.32 * vector_bytes, "B"), "1.32 x the vectors, all in one machine"
    yield "memory, exact index beside mapped vectors", human(0.32 * vector_bytes, "B"), "0.32 x the vectors"
    codes = CODE_BITS / 8
    yield (
        "memory, Hamming index, whole numbers as ids",
        human((codes + 16) * regions, "B"),
        "code, id and order, 8 B each",
    )
    yield (
        "memory, Hamming index, ids as text",
        human((codes + 8 + 4 * ID_BYTES) * regions, "B"),
        "ids of 64 letters, 4 B each",
    )


def tables(rates: Rates) -> list[dict[str, object]]:
    """The table of the page."""
    small, large = (list(costs(rates, size)) for size in (1e8, 1e10))
    return [
        {"what": one[0], "100 million": one[1], "10 billion": other[1], "from": other[2]}
        for one, other in zip(small, large, strict=True)
    ]


def main() -> None:
    """Measure or read the rates, and print what follows from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--measure", action="store_true", help="measure the rates here")
    parser.add_argument("--rates", type=Path, default=KEPT, help="a file that --save wrote")
    parser.add_argument("--save", type=Path, help="write the rates and the machine here")
    options = parser.parse_args()
    if options.measure or options.small:
        folder = Path(tempfile.mkdtemp())
        try:
            rates = measure(12 if options.small else 200, 32 if options.small else 1024, folder)
        finally:
            shutil.rmtree(folder)
    else:
        rates = Rates(**json.loads(options.rates.read_text())["rates"])
    if options.save:
        told = {"machine": machine(), "rates": dataclasses.asdict(rates)}
        options.save.write_text(json.dumps(told, indent=1) + "\n")
    report("scaling: rates", [{"rate": n, "value": f"{v:.4g}"} for n, v in dataclasses.asdict(rates).items()], None)
    report("scaling: what so many pictures cost", tables(rates), options.json)


if __name__ == "__main__":
    main()

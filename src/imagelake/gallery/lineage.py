"""Which model with which settings made each vector and code of an image, and when."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from imagelake.errors import ImagelakeError
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables
from imagelake.run.runs import RunInfo, list_runs

_SHOWN_RUNS = 5
_ADDING = ("ingest", "receive")  # what adds images
_WEIGHTS = ("model", "int8")  # roles of files, of those a model has


def lineage_of(tables: Tables, image_id: str, regions: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """What each embedding set has of an image, sorted by name, and which detectors found its regions.

    Args:
        tables: of the lake.
        image_id: a full id.
        regions: the rows of the regions table that are of this image.

    Returns:
        For each set that has a vector of the image, or of a region in it: `set`, `kind` (`"image"` or `"regions"`),
        `vectors` (how many), `fingerprint`, `dimensions`, `model` (as `model_words`), `detector` (of regions: its
        `model`, settings and `crop`), `runs` and `runs_count` (the last runs that added to the set), `codes`. Then one
        entry of `kind` `"detector"` for each fingerprint of a detector whose regions have no vectors.
    """
    runs = _runs_by_subject(tables)
    codes = {name: tables.codes(name) for name in tables.code_sets()}
    found, embedded = [], set[str]()
    for name in tables.embedding_sets():
        table = tables.embeddings(name)
        of_regions = "image_id" in table.schema.names
        ids = table.rows("image_id" if of_regions else "id", [image_id], ["id"]).column("id").to_pylist()
        if ids:
            embedded |= set(ids)
            found.append(_set(name, table, ids, of_regions=of_regions, codes=codes) | _told_runs(runs.get(name, [])))
    return found + _detectors([row for row in regions if row["id"] not in embedded])


def model_words(text: str) -> dict[str, Any]:
    """What a manifest says, in the words that people ask for; only its name and kind where it is one of others.

    Returns:
        Those of `name`, `task`, `sha256`, `size_bytes`, `source`, `licence`, `architecture`, `precision`, `input_wh`,
        `resize`, `mean`, `std`, `pooling`, `metric`, `transforms`, `head` that it has.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    if "runtime" in told:
        return _without_nothing(_file_words(told))
    package, file = told.get("source_package"), told.get("source_file")
    return _without_nothing({
        "name": told.get("name"), "task": told.get("task"), "sha256": told.get("weights_sha256"),
        "size_bytes": told.get("size_bytes"), "source": f"{package}: {file}" if package and file else None,
        "licence": told.get("licence"), "architecture": told.get("architecture"), "precision": told.get("precision"),
        "input_wh": told.get("input_size_wh"), "resize": told.get("resize"), "mean": told.get("mean_rgb"),
        "std": told.get("std_rgb"), "pooling": told.get("pooling"), "metric": told.get("metric"),
    })  # fmt: skip


def ingested_by(tables: Tables, added_at: datetime | None, uris: Sequence[str]) -> dict[str, Any] | None:
    """The run that added an image: the one that was at work then, of its source where several were; None: not known."""
    if added_at is None:
        return None
    at_work = [
        run
        for run in _runs(tables)
        if run.work in _ADDING and run.added and run.started_at and run.started_at <= added_at <= run.finished_at
    ]
    if len(at_work) > 1:
        at_work = [run for run in at_work if run.subject and any(uri.startswith(run.subject) for uri in uris)]
    return _run(at_work[0]) if len(at_work) == 1 else None


def _set(
    name: str, table: Table, ids: Sequence[str], *, of_regions: bool, codes: Mapping[str, Table]
) -> dict[str, Any]:
    """One embedding set, without when it was made."""
    told = table.schema.metadata or {}
    mark = told.get(b"imagelake:fingerprint", b"").decode("utf-8", "replace")
    entry = {
        "set": name,
        "kind": "regions" if of_regions else "image",
        "vectors": len(ids),
        "fingerprint": mark,
        "dimensions": table.schema.field("vector").type.list_size,
        "model": model_words(told.get(b"imagelake:manifest", b"").decode("utf-8", "replace")),
        "detector": _pipeline(told.get(b"imagelake:pipeline")),
        "codes": [_code(each, codes[each], ids) for each in codes if _made_of(codes[each]) == mark],
    }
    return {key: value for key, value in entry.items() if value not in (None, [], {}, "")}


def _made_of(codes: Table) -> str:
    """The fingerprint of the vectors that these codes are of."""
    return str((codes.schema.metadata or {}).get(b"imagelake:embeddings", b"?").decode("utf-8", "replace"))


def _code(name: str, codes: Table, ids: Sequence[str]) -> dict[str, Any]:
    told = codes.schema.metadata or {}
    return {
        "set": name,
        "bits": codes.schema.field("code").type.byte_width * 8,
        "codes": codes.rows("id", list(ids), ["id"]).num_rows,
        "fingerprint": told.get(b"imagelake:fingerprint", b"").decode("utf-8", "replace"),
        "model": model_words(told.get(b"imagelake:manifest", b"").decode("utf-8", "replace")),
    }


def _pipeline(told: bytes | None) -> dict[str, Any] | None:
    """The detector of a set of regions with its settings."""
    try:
        steps = json.loads(told or b"{}")
        detect, crop = dict(steps.get("detect") or {}), steps.get("crop") or {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if not detect:
        return None
    text = str(detect.pop("model", ""))
    model = model_words(text)
    if not model and text.startswith("{"):  # the one that needs no file: {"subject": "fp32"}
        model = _subject(text)
    return _without_nothing({"model": model, **detect, "margin": crop.get("margin")})


def _subject(text: str) -> dict[str, Any]:
    try:
        name, precision = next(iter(json.loads(text).items()))
    except (ValueError, AttributeError, StopIteration, RecursionError):
        return {}
    return {"name": str(name), "precision": str(precision)}


def _file_words(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model that lies as files."""
    hashes = told.get("sha256") if isinstance(told.get("sha256"), dict) else {}
    role = _WEIGHTS[1] if told.get("precision") == "int8" else _WEIGHTS[0]
    head = told.get("head") if isinstance(told.get("head"), dict) else {}
    inputs = told.get("inputs") or [{}]
    return {
        "name": told.get("name"), "task": told.get("task"), "sha256": (hashes or {}).get(role),
        "source": told.get("source"), "licence": told.get("licence"), "architecture": told.get("runtime"),
        "precision": told.get("precision"), "metric": (head or {}).get("metric"),
        "shape": inputs[0].get("shape") if isinstance(inputs[0], dict) else None,
        "transforms": [_step(each) for each in told.get("transforms") or []],
        "head": _step(head) if head else None,
    }  # fmt: skip


def _step(settings: Any) -> str:
    """A transform or a head on one line."""
    if not isinstance(settings, dict):
        return str(settings)[:300]
    kind = settings.get("kind", "")
    rest = ", ".join(f"{name} {json.dumps(value)}" for name, value in settings.items() if name != "kind")
    return f"{kind}: {rest}"[:300] if rest else str(kind)


def _detectors(regions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who found regions that have no vector."""
    counts: dict[tuple[str, str], int] = {}
    for row in regions:
        key = (row.get("model") or "", row.get("fingerprint") or "")
        counts[key] = counts.get(key, 0) + 1
    return [
        _without_nothing({"kind": "detector", "model": {"name": name}, "fingerprint": mark, "regions": count})
        for (name, mark), count in sorted(counts.items())
    ]


def _runs_by_subject(tables: Tables) -> dict[str, list[RunInfo]]:
    """The runs that made vectors, the newest first, by their set."""
    found: dict[str, list[RunInfo]] = {}
    for run in _runs(tables):
        if run.subject and run.added:
            found.setdefault(run.subject, []).append(run)
    return found


def _runs(tables: Tables) -> tuple[RunInfo, ...]:
    """All runs, the newest first; none where the receipts cannot be read: vectors tell of themselves all the same."""
    try:
        return _runs_of(tables, tables.receipts.fingerprint())
    except ImagelakeError:
        return ()


@functools.lru_cache(maxsize=4)
def _runs_of(tables: Tables, mark: str) -> tuple[RunInfo, ...]:  # noqa: ARG001  (the mark is of the key)
    return tuple(list_runs(tables))


def _told_runs(runs: Sequence[RunInfo]) -> dict[str, Any]:
    return {"runs": [_run(run) for run in runs[:_SHOWN_RUNS]], "runs_count": len(runs)} if runs else {}


def _run(run: RunInfo) -> dict[str, Any]:
    return _without_nothing({
        "run": run.run, "work": run.work, "subject": run.subject, "engine": run.engine,
        "started_at": run.started_at and run.started_at.isoformat(), "finished_at": run.finished_at.isoformat(),
    })  # fmt: skip


def _without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [], {}, "")}

"""What the server does at this moment, in JSON: its models, their queues, how long answers take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from imagelake.serve.site import Site
from imagelake.serve.statistics import ModelStatistics, Tally

_NS_A_MS = 1e6


def health_of(site: Site | None, up_s: float) -> dict[str, Any]:
    """The server at this moment.

    Args:
        site: its models and figures; None: only how long it is up.
        up_s: how long it is up, in seconds.

    Returns:
        `up_s`, `state` (`"ready"`, `"starting"` or `"ending"`), `http` (`answered`, `failed`, `in_flight`, `refused` by
        reason), `models`: each with `waiting`, requests by outcome, and milliseconds.
    """
    if site is None:
        return {"up_s": up_s, "state": "ready", "http": None, "models": []}
    lifecycle = site.lifecycle
    state = "ending" if lifecycle.draining else "starting" if lifecycle.starting else "ready"
    metrics = site.metrics
    families = [] if metrics is None else list(metrics.registry.collect())
    models = [_model(told, _quantiles(families, told.name)) for told in site.plane.statistics()]
    return {"up_s": up_s, "state": state, "http": _http(families) if families else None, "models": models}


def _model(told: ModelStatistics, quantiles: dict[str, float | None]) -> dict[str, Any]:
    return {
        "name": told.name,
        "version": told.version,
        "waiting": told.queued,
        "answered": told.success.count,
        "failed": told.fail.count,
        "outcomes": dict(told.outcomes),
        "rows": told.inference_count,
        "runs": told.execution_count,
        "cache_hits": told.cache_hit.count,
        "last_ms": told.last_inference_ms or None,
        "mean_ms": _mean_ms(told.success),
        "queue_ms": _mean_ms(told.queue),
        "compute_ms": _mean_ms(told.compute_infer),
        **quantiles,
    }


def _mean_ms(tally: Tally) -> float | None:
    return round(tally.ns / tally.count / _NS_A_MS, 3) if tally.count else None


def _http(families: Sequence[Any]) -> dict[str, Any]:
    answered = failed = in_flight = 0
    refused: dict[str, int] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == "imagelake_http_requests_total":
                answered += int(sample.value)
                failed += int(sample.value) if sample.labels["status"].startswith("5") else 0
            elif sample.name == "imagelake_refused_total":
                refused[sample.labels["reason"]] = int(sample.value)
            elif sample.name == "imagelake_in_flight_requests":
                in_flight = int(sample.value)
    return {"answered": answered, "failed": failed, "in_flight": in_flight, "refused": refused}


def _quantiles(families: Sequence[Any], model: str) -> dict[str, float | None]:
    """The median and the 95th percentile of a model's answers in milliseconds, all protocols together."""
    counts: dict[float, float] = {}
    for family in families:
        if family.name != "imagelake_request_seconds":
            continue
        for sample in family.samples:
            if sample.name.endswith("_bucket") and sample.labels["model"] == model:
                edge = float(sample.labels["le"])
                counts[edge] = counts.get(edge, 0) + sample.value
    return {f"p{share}_ms": quantile_ms(counts, share / 100) for share in (50, 95)}


def quantile_ms(counts: dict[float, float], share: float) -> float | None:
    """A quantile of a histogram, in milliseconds: even within a bucket. None where nothing was counted.

    Args:
        counts: how many were at most so many seconds, by seconds; infinity has all.
        share: 0 to 1.
    """
    total = counts.get(math.inf, 0)
    if not total:
        return None
    edges = [(0.0, 0.0), *sorted(counts.items())]
    for (low, before), (high, upto) in itertools.pairwise(edges):
        if upto >= share * total:
            inside = (share * total - before) / (upto - before) if upto > before else 1.0
            return round(1000 * (low if math.isinf(high) else low + inside * (high - low)), 3)
    return None

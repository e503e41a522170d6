"""What the Open Inference Protocol v2 tells of servers and models, as JSON: metadata, configuration, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagelake.serve.oip_types import datatype_of
from imagelake.serve.plane import Plane
from imagelake.serve.served_model import ServedModel
from imagelake.serve.statistics import BatchTally, ModelStatistics, Tally
from imagelake.serve.tensor_info import TensorInfo

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "statistics")


def server_metadata(name: str, version: str, *, repository: bool) -> dict[str, Any]:
    """What the server is.

    Args:
        name: of the server.
        version: of the server.
        repository: whether models may be loaded and unloaded.
    """
    extensions = [*EXTENSIONS, "model_repository"] if repository else list(EXTENSIONS)
    return {"name": name, "version": version, "extensions": extensions}


def model_metadata(model: ServedModel, versions: Sequence[str]) -> dict[str, Any]:
    """What a model takes and gives. An input that also takes encoded pictures is its tensor here.

    Args:
        model: described.
        versions: of it that are served.
    """
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": model.platform,
        "inputs": [_tensor(info) for info in model.inputs],
        "outputs": [_tensor(info) for info in model.outputs],
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "datatype": datatype_of(info.dtype), "shape": list(info.shape)}


def model_config(model: ServedModel) -> dict[str, Any]:
    """A model in the words of the model-configuration extension; the sides are without the batch."""
    return {
        "name": model.name,
        "platform": model.platform,
        "backend": model.platform.partition("_")[0],
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": model.max_batch,
        "input": [_config_tensor(info, model) | {"optional": info.optional} for info in model.inputs],
        "output": [_config_tensor(info, model) for info in model.outputs],
        **({"dynamic_batching": {}} if model.max_batch else {}),
    }


def _config_tensor(info: TensorInfo, model: ServedModel) -> dict[str, Any]:
    datatype = datatype_of(info.dtype)
    dims = info.shape[1:] if model.max_batch else info.shape
    return {
        "name": info.name,
        "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
        "dims": list(dims),
    }


def repository_index(plane: Plane, loadable: Sequence[str] = (), *, only_ready: bool = False) -> list[dict[str, str]]:
    """The models that are served, and those that could be.

    Args:
        plane: the models that are served.
        loadable: names of those that callers may load.
        only_ready: leave out what is not ready.
    """
    names = plane.names()
    states = [(name, version, plane.ready(name, version)) for name in names for version in plane.versions(name)]
    served = [
        {"name": name, "version": version, "state": "READY" if ready else "UNAVAILABLE", "reason": ""}
        for name, version, ready in states
        if ready or not only_ready
    ]
    others = () if only_ready else sorted(set(loadable) - set(names))
    return served + [{"name": name, "version": "", "state": "UNAVAILABLE", "reason": "not loaded"} for name in others]


def model_statistics(statistics: Sequence[ModelStatistics]) -> dict[str, Any]:
    """What models have done, in the words of the statistics extension."""
    return {"model_stats": [_statistics(each) for each in statistics]}


def _statistics(each: ModelStatistics) -> dict[str, Any]:
    return {
        "name": each.name,
        "version": each.version,
        "last_inference": each.last_inference_ms,
        "inference_count": each.inference_count,
        "execution_count": each.execution_count,
        "inference_stats": {
            "success": _tally(each.success),
            "fail": _tally(each.fail),
            "queue": _tally(each.queue),
            "compute_input": _tally(each.compute_input),
            "compute_infer": _tally(each.compute_infer),
            "compute_output": _tally(each.compute_output),
            "cache_hit": _tally(each.cache_hit),
            "cache_miss": _tally(each.cache_miss),
        },
        "batch_stats": [_batch(batch) for batch in each.batches],
    }


def _batch(batch: BatchTally) -> dict[str, Any]:
    return {
        "batch_size": batch.rows,
        "compute_input": _tally(batch.compute_input),
        "compute_infer": _tally(batch.compute_infer),
        "compute_output": _tally(batch.compute_output),
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {"count": tally.count, "ns": tally.ns}

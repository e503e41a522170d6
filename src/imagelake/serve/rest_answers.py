"""What models and the lake give, as people read it in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.serve.json_answer import short
from imagelake.serve.lake_view import Found
from imagelake.serve.served_model import Answer, ServedModel
from imagelake.serve.tensor_info import TensorInfo


def predictions_of(outputs: Answer, labels: Sequence[str], k: int, least: float) -> list[dict[str, Any]]:
    """The `k` most probable classes of one picture, from `probabilities` [1, classes].

    Raises:
        ModelError: the model gave what is no number.
    """
    row = _finite(outputs["probabilities"][0])
    best = np.argsort(-row, kind="stable")[:k]
    return [
        {"label": _label(labels, int(number)), "class_id": int(number), "probability": probability}
        for number, probability in zip(best, short(row[best]), strict=True)
        if row[number] >= least
    ]


def boxes_of(outputs: Answer, labels: Sequence[str], k: int, least: float) -> list[dict[str, Any]]:
    """The `k` boxes of one picture with the highest scores, from `boxes` [1, most, 4] and what belongs to them.

    Raises:
        ModelError: the model gave what is no number.
    """
    count = int(outputs["count"][0])
    scores = _finite(outputs["scores"][0][:count])
    boxes = _finite(outputs["boxes"][0][:count])
    class_ids = outputs["class_ids"][0][:count]
    best = [number for number in np.argsort(-scores, kind="stable")[:k].tolist() if scores[number] >= least]
    return [
        {
            "box": short(boxes[number]),
            "label": _label(labels, int(class_ids[number])),
            "class_id": int(class_ids[number]),
            "score": short(scores[number : number + 1])[0],
        }
        for number in best
    ]


def vector_of(outputs: Answer) -> list[float]:
    """The vector of one picture, from `embedding` [1, d].

    Raises:
        ModelError: the model gave what is no number.
    """
    return short(_finite(outputs["embedding"][0]))


def match_of(found: Found, root: str) -> dict[str, Any]:
    """An image that was found. Links begin with `root`."""
    return {
        "id": found.id,
        "uri": found.uri,
        "distance": found.distance,
        "box": None if found.box_xyxy is None else list(found.box_xyxy),
        "label": found.label,
        "links": links_of(found.id, root),
    }


def links_of(image_id: str, root: str) -> dict[str, str]:
    """Where else an image can be had."""
    return {
        "image": f"{root}/api/images/{image_id}",
        "picture": f"{root}/api/images/{image_id}/picture",
        "thumbnail": f"{root}/thumbnail/{image_id}",
    }


def described(model: ServedModel, *, ready: bool, default: bool) -> dict[str, Any]:
    """A model, without its labels, of which there may be thousands."""
    return {
        "name": model.name,
        "version": model.version,
        "task": model.task,
        "description": model.description,
        "platform": model.platform,
        "fingerprint": model.fingerprint,
        "classes": len(model.labels),
        "ready": ready,
        "default": default,
        "inputs": [_tensor(info) for info in model.inputs],
        "outputs": [_tensor(info) for info in model.outputs],
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "type": "string" if info.dtype == "object" else info.dtype,
        "shape": list(info.shape),
        "description": info.description,
        "pictures": info.pictures,
        "optional": info.optional,
    }


def _label(labels: Sequence[str], class_id: int) -> str:
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)


def _finite(numbers: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(numbers).all():
        raise ModelError("The model gave values that are no finite numbers. Send another picture, or mend the model.")
    return numbers

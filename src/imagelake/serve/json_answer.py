"""Answers in JSON that no browser takes for anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def json_answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer. Texts are UTF-8; half of a letter, which is none, becomes a question mark."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    return Response(text.encode("utf-8", "replace"), status, HEADERS | dict(headers or {}), "application/json")


def short(numbers: NDArray[Any]) -> list[float]:
    """Numbers with as few digits as tell them from their neighbors of the same type: float32 0.1 is 0.1."""
    return [float(str(number)) for number in numbers.ravel()] if numbers.dtype == np.float32 else numbers.tolist()

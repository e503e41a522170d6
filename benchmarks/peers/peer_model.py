"""What every peer runs: the same file, the same settings of the runtime, the same preparation of a picture."""

from __future__ import annotations

import os

import cv2
import numpy as np
import onnxruntime

SIDE = 224


def open_session() -> onnxruntime.InferenceSession:
    """The model of the environment variable MODEL; one thread a call, as `imagelake serve` has it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])


def prepare(data: bytes) -> np.ndarray:
    """Decode, cut the middle square, resize: uint8 [224, 224, 3], RGB."""
    cv2.setNumThreads(1)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return cv2.resize(image[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def best(logits: np.ndarray) -> list[dict[str, float]]:
    """The likeliest class of each row, with its probability."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return [{"class_id": int(row.argmax()), "probability": float(row.max())} for row in shares]

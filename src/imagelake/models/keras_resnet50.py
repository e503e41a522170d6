"""ResNet50 without its last layer around the weights that Keras publishes, as ONNX, as the published demo has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imagelake._optional import need
from imagelake.errors import ModelError
from imagelake.models.conversion import Comparison, Imported
from imagelake.models.import_tensorflow import import_keras_model, load_tensorflow
from imagelake.models.tensorflow_files import require_own_data

SIDE = 224


def build_resnet50(weights: Path, target: Path, side: int = SIDE) -> Imported:
    """Write ResNet50 with a maximum over its map as ONNX, and check it against Keras.

    Args:
        weights: Keras's `resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5`; arrays, no program.
        target: the ONNX file to write; it takes float32 [n, side, side, 3].
        side: of the pictures that it takes, in pixels.

    Raises:
        ModelError: the weights do not fit, or the result is not the same.
        MissingExtraError: tensorflow is not installed.
    """
    load_tensorflow()
    keras = need("tensorflow", "keras")
    require_own_data(weights, weights)
    try:
        model = keras.applications.ResNet50(
            include_top=False, weights=str(weights), input_shape=(side, side, 3), pooling="max"
        )
    except Exception as error:  # whatever Keras meets in a file of another model
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{weights} does not fit ResNet50 ({type(error).__name__}: {reason}); get it again") from error
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 256, (14, 14, 3), np.uint8), np.ones((16, 16, 1), np.uint8)) for _ in range(2)]
    return import_keras_model(model, target, Comparison(pictures), f"made with Keras from {weights.name}")

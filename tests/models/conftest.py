from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data

from imagelake.models import zoo
from imagelake.models.efficientnet_lite0.weights import read_weights

SHARED_PRODUCTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "products"


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def weights():
    manifest = zoo.manifest("efficientnet-lite0", precision="fp32")
    return read_weights(zoo.find_weights(manifest), manifest.weights_sha256)


@pytest.fixture(scope="session")
def photos():
    """Photos that anyone can have, each with the ImageNet classes that describe it."""
    return {
        "chelsea": (np.ascontiguousarray(skimage.data.chelsea()), {281, 282, 283, 284, 285}),
        "coffee": (np.ascontiguousarray(skimage.data.coffee()), {967, 968, 504}),
        "rocket": (np.ascontiguousarray(skimage.data.rocket()), {657, 744}),
    }


@pytest.fixture(scope="session")
def products_folder():
    if not (SHARED_PRODUCTS / "labels.csv").exists():
        pytest.skip(f"the labeled product photos are not at {SHARED_PRODUCTS}")
    return SHARED_PRODUCTS

"""The world of a notebook's map."""

import cv2
import numpy as np

from imagelake.web.outlines import land


def test_the_land_has_outlines():
    """Closed rings in degrees; Africa and Australia are in them, the Atlantic and the Pacific are not."""
    rings = land()
    assert len(rings) > 100
    everything = np.concatenate(rings)
    assert -180.1 < everything[:, 0].min() < -170 < 170 < everything[:, 0].max() < 180.1
    assert -90.1 < everything[:, 1].min() < 80 < everything[:, 1].max() < 90.1

    def inside(longitude, latitude):
        where = [
            cv2.pointPolygonTest(ring.astype(np.float32)[:, None], (longitude, latitude), measureDist=False) > 0
            for ring in rings
        ]
        return sum(where) % 2 == 1

    assert inside(20.0, 10.0)
    assert inside(134.0, -25.0)
    assert not inside(-35.0, 20.0)
    assert not inside(-150.0, 0.0)

"""Where a picture was taken: the GPS tags of EXIF (CIPA DC-008, section 4.6.6) as decimal degrees and meters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagelake.pixels.tiff_directory import Value

_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = 1, 2, 3, 4, 5, 6
_MAX_ALTITUDE_M = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """WGS84 degrees, north and east positive, both or neither; meters above sea level; what was refused (`fault`)."""

    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    fault: str | None = None


def find_place(gps: Mapping[int, Value]) -> Place:
    """Find the place in the GPS tags.

    No fix (0, 0), a missing hemisphere, a zero denominator and angles off the globe are no place, and `fault` says so.
    """
    if _LATITUDE not in gps and _LONGITUDE not in gps:
        return Place(altitude_m=_read_altitude(gps))
    latitude = _read_angle(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "NS", 90)
    longitude = _read_angle(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "EW", 180)
    if latitude is None or longitude is None:
        return Place(altitude_m=_read_altitude(gps), fault="the GPS position cannot be read")
    if latitude == 0 and longitude == 0:
        return Place(fault="the GPS position is 0, 0: no fix")
    return Place(latitude, longitude, _read_altitude(gps))


def _read_angle(value: Value, reference: Value, letters: str, limit: int) -> float | None:
    """Read degrees, minutes and seconds (each may have a fraction, the last ones may be missing) with their sign."""
    letter = reference[:1].upper() if isinstance(reference, str) else ""
    parts = value if isinstance(value, tuple) else (value,)
    if not letter or letter not in letters or not 1 <= len(parts) <= 3:
        return None
    angle = 0.0
    for part, unit in zip(parts, (1, 60, 3600), strict=False):
        if not isinstance(part, int | float) or part < 0 or (unit > 1 and part > 60):
            return None
        angle += part / unit
    if angle > limit:
        return None
    angle = round(angle, 9)  # a tenth of a millimeter; hides the rounding of the sum
    return -angle if letter in "SW" and angle else angle


def _read_altitude(gps: Mapping[int, Value]) -> float | None:
    """Read the altitude; reference 1 (and 3 since EXIF 3.0) is below."""
    value = gps.get(_ALTITUDE)
    if not isinstance(value, int | float) or abs(value) > _MAX_ALTITUDE_M:
        return None
    reference = gps.get(_ALTITUDE_REF)
    if isinstance(reference, bytes | tuple) and reference:
        reference = reference[0]
    below = reference in {1, 3, "1", "3"} if isinstance(reference, int | str) else False
    return -float(value) if below and value else float(value)

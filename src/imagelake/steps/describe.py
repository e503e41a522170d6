"""Find out everything about a picture in one decoding: size, metadata, figures, hash, thumbnail."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from imagelake import schema as schemas
from imagelake.errors import ImageError
from imagelake.pixels.describe import describe
from imagelake.pixels.quality import NEW_COLUMNS, flags_of
from imagelake.steps.step import Function

FINGERPRINT = "describe-3"  # raised when the same bytes would be described otherwise


_DESCRIPTION = pa.struct(schemas.DESCRIPTION)


@dataclass(frozen=True)
class Describe:
    """Adds the columns of `schema.DESCRIPTION`. Rows that are known or have an error are passed on as they are."""

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns that come in, then the description."""
        return pa.schema([*schema, *schemas.DESCRIPTION])

    def open(self) -> Function:
        """Nothing heavy to load but the decoders."""
        return self._describe

    def _describe(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        known = batch.column("known").to_pylist()
        errors = batch.column("error").to_pylist()
        rows: list[dict[str, object] | None] = []
        for position, data in enumerate(batch.column("bytes")):
            row: dict[str, object] | None = None
            if not known[position] and errors[position] is None:
                try:
                    row = _columns(data.as_py())
                except ImageError as error:
                    errors[position] = str(error)
                except Exception as error:  # noqa: BLE001  (a fault of ours in one picture costs that picture alone)
                    errors[position] = f"cannot be described: {type(error).__name__}: {error}"
            rows.append(row)
        described = pa.array(rows, _DESCRIPTION).flatten()  # one conversion instead of one a column
        columns = dict(zip(batch.schema.names, batch.columns, strict=True)) | {"error": pa.array(errors, pa.string())}
        return pa.record_batch([*columns.values(), *described], schema=self.output_schema(batch.schema))


def _columns(data: bytes) -> dict[str, object]:
    """The picture's values by column name."""
    found = describe(data)
    exif, figures = found.exif, found.figures
    words, taken_at = found.captions.words, found.captions.taken_at
    return {
        "format": found.format,
        "width": found.width,
        "height": found.height,
        "byte_size": len(data),
        "mode": found.mode,
        "frames": found.frames,
        "has_alpha": found.has_alpha,
        "orientation": found.orientation,
        "taken_at": taken_at.local,
        "utc_offset_minutes": taken_at.offset_minutes,
        "taken_at_utc": taken_at.utc,
        "taken_at_source": taken_at.source,
        "camera_make": exif.camera_make,
        "camera_model": exif.camera_model,
        "lens": exif.lens,
        "exposure_s": exif.exposure_s,
        "f_number": exif.f_number,
        "iso": exif.iso,
        "focal_length_mm": exif.focal_length_mm,
        "latitude": exif.latitude,
        "longitude": exif.longitude,
        "altitude_m": exif.altitude_m,
        "exif": exif.tags_json,
        "title": words.title,
        "caption": words.caption,
        "keywords": words.keywords or None,
        "rating": words.rating,
        "creator": words.creator,
        "copyright": words.copyright,
        "xmp": found.captions.xmp_json,
        "iptc": found.captions.iptc_json,
        **dict(zip(("mean_r", "mean_g", "mean_b"), figures.mean_rgb, strict=True)),
        **dict(zip(("std_r", "std_g", "std_b"), figures.std_rgb, strict=True)),
        "brightness": figures.brightness,
        "contrast": figures.contrast,
        "sharpness": figures.sharpness,
        "entropy": figures.entropy,
        **{name: getattr(figures, name) for name in NEW_COLUMNS},
        "flags": flags_of(figures, found.width, found.height),
        "perceptual_hash": found.perceptual_hash,
        "thumbnail": found.thumbnail_jpeg,
    }

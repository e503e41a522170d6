"""The Arrow schemas of all tables and of records on their way: the words of the lake, with their units.

An id is the SHA-256 of the picture's bytes as 64 hexadecimal letters, what `sha256sum` prints.
"""

from __future__ import annotations

import pyarrow as pa

FORMAT_VERSION = "1"
ID_LETTERS = 64

# The table format refuses to commit one key twice only where the key is declared so.
_KEY = {"lance-schema:unenforced-primary-key": "true"}
_TIME = pa.timestamp("us", tz="UTC")


def _key(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata=_KEY)


SOURCE = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("bytes", pa.large_binary()),  # null where it could not be read; `error` says why
        pa.field("error", pa.string()),
        pa.field("metadata", pa.string()),  # what else the source knows of the picture, a JSON object; null: nothing
    ]
)
"""What a source yields: one row per picture found. A source may leave out `metadata`.

In `metadata`, `labels` is a list of texts, `regions` a list of `{"box_xyxy": [left, top, right, bottom], "label"}` in
[0, 1] of the picture as stored, `captured_at` an ISO 8601 time, `latitude` and `longitude` are degrees; any other name
is kept as it is.
"""

PLACE = [
    pa.field("country_code", pa.string()),  # ISO 3166-1, two letters
    pa.field("country", pa.string()),
    pa.field("place", pa.string()),
]
"""Where a picture was taken, in words: null until `run.places` fills it."""

DESCRIPTION = [
    pa.field("format", pa.string()),  # jpeg, png, webp, gif, tiff, bmp, avif, heic
    pa.field("width", pa.int32()),  # pixels of the upright image
    pa.field("height", pa.int32()),
    pa.field("byte_size", pa.int64()),
    pa.field("mode", pa.string()),  # as stored: RGB, L, CMYK, P, I;16, ...
    pa.field("frames", pa.int32()),
    pa.field("has_alpha", pa.bool_()),
    pa.field("orientation", pa.int8()),  # EXIF, 1 to 8, as stored; pixels here are upright
    pa.field("taken_at", pa.timestamp("us")),  # the clock on the wall where it was taken
    pa.field("utc_offset_minutes", pa.int16()),  # null: not known, then taken_at_utc is null too
    pa.field("taken_at_utc", _TIME),
    pa.field("taken_at_source", pa.string()),  # exif+offset, exif+gps, gps, exif (naive), xmp+offset, ...
    pa.field("camera_make", pa.string()),
    pa.field("camera_model", pa.string()),
    pa.field("lens", pa.string()),
    pa.field("exposure_s", pa.float64()),
    pa.field("f_number", pa.float32()),
    pa.field("iso", pa.int32()),
    pa.field("focal_length_mm", pa.float32()),
    pa.field("latitude", pa.float64()),  # decimal degrees, WGS 84
    pa.field("longitude", pa.float64()),
    pa.field("altitude_m", pa.float32()),
    pa.field("exif", pa.string()),  # every tag, as one JSON object
    pa.field("title", pa.string()),  # from XMP, IPTC or EXIF, as the next five
    pa.field("caption", pa.string()),
    pa.field("keywords", pa.list_(pa.string())),  # null: none
    pa.field("rating", pa.int8()),  # 0 to 5 stars; -1: rejected
    pa.field("creator", pa.string()),
    pa.field("copyright", pa.string()),
    pa.field("xmp", pa.string()),  # every value, as one JSON object
    pa.field("iptc", pa.string()),
    pa.field("mean_r", pa.float32()),  # 0 to 255
    pa.field("mean_g", pa.float32()),
    pa.field("mean_b", pa.float32()),
    pa.field("std_r", pa.float32()),
    pa.field("std_g", pa.float32()),
    pa.field("std_b", pa.float32()),
    pa.field("brightness", pa.float32()),  # mean luma, 0 to 255
    pa.field("contrast", pa.float32()),  # standard deviation of luma
    pa.field("sharpness", pa.float32()),  # variance of the Laplacian of luma
    pa.field("entropy", pa.float32()),  # bits, 0 to 8
    pa.field("fineness", pa.float32()),  # sharpness over the mean squared gradient of luma
    pa.field("luma_p95", pa.float32()),  # 95 % of the pixels are at most as bright
    pa.field("luma_range", pa.float32()),  # from the darkest to the brightest 1 % of luma
    pa.field("bright_share", pa.float32()),  # of pixels with luma 250 or more, 0 to 1
    pa.field("flat_share", pa.float32()),  # of pixels that equal the one below, 0 to 1
    pa.field("crisp_share", pa.float32()),  # of changes from row to row: jumps beside an even pixel
    pa.field("flags", pa.list_(pa.string())),  # what is wrong with it, see pixels.quality; empty: nothing
    pa.field("perceptual_hash", pa.uint64()),
    pa.field("thumbnail", pa.binary()),  # JPEG, longer side at most 256 pixels
    *PLACE,
]
"""What `steps.describe` finds out about a picture; it leaves `PLACE` null."""

DESCRIBED = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("bytes", pa.large_binary()),
        pa.field("error", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("id", pa.string()),  # null where nothing could be read
        pa.field("known", pa.bool_()),  # the lake had this content already: it was not decoded again
        *DESCRIPTION,
    ]
)

IMAGES = pa.schema(
    [
        _key("id"),
        pa.field("uris", pa.list_(pa.string())),  # every URI that this content was seen under
        pa.field("labels", pa.list_(pa.string())),  # what its sources say that it shows
        pa.field("tags", pa.list_(pa.string())),  # words that people gave it with `imagelake tag`
        *DESCRIPTION,
        pa.field("metadata", pa.string()),  # what the source knew besides, one JSON object
        pa.field("added_at", _TIME),
    ],
    metadata={"imagelake:format": FORMAT_VERSION},
)
"""The images table, without the column `bytes`, which `lake` adds in the form of its table format."""

REGIONS = pa.schema(
    [
        _key("id"),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("box_xyxy", pa.list_(pa.float32(), 4)),  # in [0, 1] of the upright image
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("model", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("fallback", pa.bool_()),  # the whole picture, because nothing was found in it; null: no
    ]
)

PREDICTIONS = pa.schema(
    [
        _key("id"),
        pa.field("image_id", pa.string()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("model", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("predicted_at", _TIME),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("device", pa.string()),
        pa.field("uri", pa.string()),  # of the object that was read
        pa.field("taken_at", pa.timestamp("us")),  # as those of `DESCRIPTION`
        pa.field("taken_at_utc", _TIME),
        pa.field("happened_at", _TIME),  # when the object was stored, as the event says
        pa.field("event_id", pa.string()),  # as its sender names it
        pa.field("event_source", pa.string()),
    ]
)
"""One answer of a model to one event. Lakes of older versions lack the columns from `uri` on until they are needed."""

REJECTIONS = pa.schema(
    [
        _key("id"),  # hash of URI and content
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_id", pa.string()),  # null where nothing could be read
        pa.field("stage", pa.string(), nullable=False),  # read, describe; of an extraction: decode, detect, embed
        pa.field("reason", pa.string(), nullable=False),
        pa.field("byte_size", pa.int64()),
        pa.field("rejected_at", _TIME),
    ]
)

RECEIPTS = pa.schema(
    [
        _key("id"),
        pa.field("work", pa.string(), nullable=False),  # ingest, extract
        pa.field("subject", pa.string()),  # the source, or the embedding set
        pa.field("fingerprint", pa.string()),
        pa.field("found", pa.int64()),
        pa.field("added", pa.int64()),
        pa.field("known", pa.int64()),
        pa.field("rejected", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("finished_at", _TIME),
        pa.field("last_uri", pa.string()),  # where a source that can go on has come to; null for others
        pa.field("at_end", pa.bool_()),  # whether that was its end
        pa.field("run", pa.string()),  # which run of a command it belongs to; null: an older imagelake did not say
        pa.field("started_at", _TIME),  # of the run
        pa.field("engine", pa.string()),  # local, spark
        pa.field("stages", pa.string()),  # seconds by stage, all threads added up, as a JSON object
    ]
)


PROJECTION = pa.schema(
    [
        _key("id"),
        pa.field("projection", pa.string(), nullable=False),  # which map: one that is made again is another
        pa.field("image_id", pa.string()),  # null in the row that tells of the map
        pa.field("x", pa.float32()),
        pa.field("y", pa.float32()),
        pa.field("told", pa.string()),  # of the map: a JSON object
    ]
)
"""Maps of one embedding set: one row a point, and one that tells of the map and is committed last."""


def embeddings(dimensions: int, manifest_json: str, fingerprint: str) -> pa.Schema:
    """One embedding set: vectors of `dimensions` float32, made by the model and preprocessing of the manifest."""
    return pa.schema(
        [_key("id"), pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False)],
        metadata={"imagelake:manifest": manifest_json, "imagelake:fingerprint": fingerprint},
    )


def region_embeddings(dimensions: int, manifest_json: str, fingerprint: str, pipeline_json: str) -> pa.Schema:
    """One embedding set of regions: as `embeddings`, with the image that each region lies in."""
    plain = embeddings(dimensions, manifest_json, fingerprint)
    columns = [*plain, pa.field("image_id", pa.string(), nullable=False)]
    return pa.schema(columns, metadata={**plain.metadata, b"imagelake:pipeline": pipeline_json.encode()})


def extracted(dimensions: int | None, bits: int | None) -> pa.Schema:
    """What `steps.extract` yields: one row a picture, or one a region that is kept.

    `vector` is there where `dimensions` are given, `code` where `bits` are. `decode_s` and so on are seconds.
    """
    vector = [] if dimensions is None else [pa.field("vector", pa.list_(pa.float32(), dimensions))]
    code = [] if bits is None else [pa.field("code", pa.binary(bits // 8))]
    return pa.schema([
        pa.field("image_id", pa.string()),
        pa.field("uri", pa.string()),  # null for an image of a lake, which may have several
        pa.field("region_id", pa.string()),  # null: the picture as a whole
        pa.field("box_xyxy", pa.list_(pa.float32(), 4)),  # in [0, 1] of the upright picture
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("fallback", pa.bool_()),  # nothing was found: the box is the whole picture
        *vector,
        *code,
        pa.field("error", pa.string()),
        pa.field("stage", pa.string()),  # where it failed: read, decode, detect, embed
        *(pa.field(f"{stage}_s", pa.float32()) for stage in STAGES),
    ])  # fmt: skip


STAGES = ("read", "decode", "detect", "embed")
"""The parts of an extraction whose seconds are told."""


def codes(bits: int, manifest_json: str, fingerprint: str, embeddings: str) -> pa.Schema:
    """Binary codes of one embedding set by one coder: `embeddings` is the fingerprint of the vectors.

    Bits are packed as `numpy.packbits` does: bit 0 is the highest of the first byte.
    """
    told = {"manifest": manifest_json, "fingerprint": fingerprint, "embeddings": embeddings}
    return pa.schema(
        [_key("id"), pa.field("code", pa.binary(bits // 8), nullable=False)],
        metadata={f"imagelake:{name}": text for name, text in told.items()},
    )

"""Write docs/reference/tables.md from the Arrow schemas of the tables and the meanings below.

    python scripts/table_reference.py

`tests/docs/test_reference.py` fails when the page is not what this makes.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from imagelake import schema

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "tables.md"

_ANY_LENGTH = 1_000_003  # stands for the length of a model's vectors

INTRODUCTION = """\
# Tables and columns

A lake is a folder with one [Lance](https://lancedb.github.io/lance/) dataset per table: `images.lance`,
`regions.lance`, ..., `embeddings/NAME.lance`. SQL knows them by the names below, an embedding set as
`"embeddings/NAME"`, in quotes. `python scripts/table_reference.py` writes this page from `src/imagelake/schema.py`.

Times are UTC, to the microsecond, unless the column says otherwise. Every key is text. A column may be null except
where it says *never null*.
"""

TABLES = {
    "images": (
        schema.IMAGES,
        "One row per distinct content. The pictures' own bytes are a further column, `bytes`, which SQL does not show; "
        "[Read a lake from other tools](../how-to/other-tools.md) says how to get them. The lake's format is written "
        f"in the metadata of this table: `imagelake:format` = `{schema.FORMAT_VERSION}`.",
    ),
    "embeddings/NAME": (
        schema.embeddings(_ANY_LENGTH, "", ""),
        "One row per image that has a vector. A set is one model with one preprocessing; `NAME` is the model's name "
        "and the start of the fingerprint. The table's metadata holds the whole manifest as JSON "
        "(`imagelake:manifest`) and the whole fingerprint (`imagelake:fingerprint`). A set of regions has the regions' "
        "ids, a column `image_id`, and what found the regions (`imagelake:pipeline`).",
    ),
    "rejections": (
        schema.REJECTIONS,
        "One row per URI and content that could not become an image, or an image that could not get a vector. When "
        "the URI becomes an image later, its row goes.",
    ),
    "receipts": (
        schema.RECEIPTS,
        "One row per commit of an ingest or an extract. found = added + known + rejected.",
    ),
    "regions": (
        schema.REGIONS,
        "One row per box in an image, found by a detector of `imagelake extract`, or told by a source with boxes "
        "(COCO, Pascal VOC), with the model `annotation`.",
    ),
    "projections/NAME": (
        schema.PROJECTION,
        "The embedding maps of a set, as the page shows them and `imagelake map` makes them: one row a point, and one "
        "that tells of the map and is committed last. `imagelake map --export` writes the newest "
        "with its images' columns.",
    ),
    "predictions": (
        schema.PREDICTIONS,
        "One row per upload event, with the answer of the model: `imagelake events` fills it. A lake of an older "
        "version gets the columns from `uri` on when the first event comes.",
    ),
}

MEANINGS = {
    "images": {
        "id": "SHA-256 of the bytes, 64 hexadecimal letters: what `sha256sum` prints",
        "uris": "every URI that this content was seen under, in the order seen",
        "labels": "what its sources say that it shows, and with `--label-from parent` the names of its folders",
        "tags": "words that people gave it with `imagelake tag`",
        "format": "`jpeg`, `png`, `webp`, `gif`, `tiff`, `bmp`, `avif`, `heic`: found in the bytes, not in the name",
        "width": "pixels of the upright picture",
        "height": "pixels of the upright picture",
        "byte_size": "bytes of the file",
        "mode": "how the file stores pixels: `RGB`, `L`, `CMYK`, `P`, `I;16`, ...",
        "frames": "frames or pages in the file; the first one is used",
        "has_alpha": "whether the file has transparency",
        "orientation": "EXIF orientation as stored, 1 to 8; everything measured here is upright",
        "taken_at": "when it was taken, by the clock on the wall there; no zone",
        "utc_offset_minutes": "that clock's distance from UTC; null where the file does not tell",
        "taken_at_utc": "the same moment in UTC; null where the offset is not known",
        "taken_at_source": "what has the time, and what its offset: `exif+offset`, `exif+gps`, `exif+xmp`, "
        "`exif+iptc`, `xmp+offset`, `xmp+gps`, `iptc+offset`, `iptc+gps`; `gps` has UTC alone; `exif`, `xmp`, `iptc` "
        "have no offset",
        "camera_make": "maker, from EXIF",
        "camera_model": "model, from EXIF",
        "lens": "lens, from EXIF",
        "exposure_s": "exposure time in seconds",
        "f_number": "aperture",
        "iso": "sensitivity",
        "focal_length_mm": "focal length in millimeters, as stored",
        "latitude": "decimal degrees, WGS 84, north is positive",
        "longitude": "decimal degrees, WGS 84, east is positive",
        "altitude_m": "meters above sea level, below is negative",
        "exif": "every EXIF tag under its standard name, as one JSON object; GPS tags are under `GPSInfo`",
        "title": "from XMP, else IPTC, else EXIF, as the next five; IPTC comes first where it was changed after XMP",
        "caption": "the description, in the default language",
        "keywords": "in their order, each once; null where there are none",
        "rating": "stars, 0 (none) to 5; -1 is rejected",
        "creator": "who made it; several names are joined with `; `",
        "copyright": "the copyright notice",
        "xmp": "every XMP value under its name, such as `dc:title`, as one JSON object; `error` says what is broken",
        "iptc": "every IPTC value under its name, such as `Keywords`, as one JSON object; `error` says what is broken",
        "mean_r": "mean of red, 0 to 255",
        "mean_g": "mean of green",
        "mean_b": "mean of blue",
        "std_r": "standard deviation of red",
        "std_g": "standard deviation of green",
        "std_b": "standard deviation of blue",
        "brightness": "mean luma, 0 to 255",
        "contrast": "standard deviation of luma",
        "sharpness": "variance of the Laplacian of luma: low is blurred or flat",
        "entropy": "Shannon entropy of luma, 0 to 8 bits",
        "fineness": "`sharpness` over the mean squared gradient of luma: low is blurred, whatever the contrast",
        "luma_p95": "95 % of the pixels are at most as bright: low is dark",
        "luma_range": "luma from the darkest to the brightest 1 % of the pixels",
        "bright_share": "share of pixels with luma 250 or more, 0 to 1",
        "flat_share": "share of pixels that equal the one below, 0 to 1",
        "crisp_share": "share of the changes from row to row that are jumps with an even pixel beside: high is drawn; "
        "0 where `flat_share` is below 0.2",
        "flags": "what may be wrong: `blurred`, `dark`, `overexposed`, `low_contrast`, `tiny`, `extreme_aspect`, "
        "`near_constant`, `screenshot`; empty: nothing ([Quality](../how-to/quality.md))",
        "perceptual_hash": "64-bit pHash: pictures that look alike differ in few bits",
        "thumbnail": "upright JPEG, longer side at most 256 pixels",
        "country_code": "country of the GPS position, ISO 3166-1 with two letters; null until `imagelake places`",
        "country": "its name in English",
        "place": "the nearest place of about 1,000 inhabitants or more, within 100 km by default",
        "metadata": "what the source knew besides, one JSON object: labels, other columns",
        "added_at": "when the image came into the lake",
    },
    "embeddings/NAME": {
        "id": "the image's id, or the region's",
        "vector": "the embedding; of length 1 where the set's metric is `cosine`",
    },
    "rejections": {
        "id": "hash of URI, content and stage",
        "uri": "where it was found",
        "content_id": "SHA-256 of the bytes; null where nothing could be read",
        "stage": "`read`, `describe`; of an extraction `decode`, `detect`, `embed`",
        "reason": "why, in words for a person",
        "byte_size": "bytes that were read",
        "rejected_at": "when it was first rejected",
    },
    "receipts": {
        "id": "a random id",
        "work": "`ingest` or `extract`",
        "subject": "the source, or the embedding set",
        "fingerprint": "what shaped the result: of the description, or of the model with its preprocessing",
        "found": "pictures in this commit",
        "added": "new images, or new vectors",
        "known": "those that were there already",
        "rejected": "those with a row in `rejections`",
        "seconds": "how long the commit took",
        "finished_at": "when it was done",
        "last_uri": "of a source that can go on, such as a database: the last picture of this piece",
        "at_end": "whether that was the end of the source; false: the next ingest of it starts there",
        "run": "which run of a command it belongs to, as `imagelake runs` lists them",
        "started_at": "when that run began",
        "engine": "`local` or `spark`",
        "stages": "seconds by stage, all threads added up, as one JSON object",
    },
    "regions": {
        "id": "hash of image, model and box",
        "image_id": "the image",
        "box_xyxy": "left, top, right, bottom, in [0, 1] of the upright picture",
        "label": "what is in the box",
        "score": "how sure the model is",
        "model": "the model that found it",
        "fingerprint": "of the model with its preprocessing and of what was chosen",
        "fallback": "the whole picture, because nothing was found in it; null for annotations",
    },
    "projections/NAME": {
        "id": "random",
        "projection": "which map: one that is made again is another, and the newest whole one counts",
        "image_id": "the image; null in the row that tells of the map",
        "x": "where its point is, in the units of the method",
        "y": "where",
        "told": "of the map: method, settings, which vectors, when, as one JSON object",
    },
    "predictions": {
        "id": "hash of the event and the model's fingerprint",
        "image_id": "SHA-256 of the bytes that were read: the image, where it is in the lake",
        "label": "the answer",
        "score": "how sure the model is",
        "model": "the model that answered",
        "fingerprint": "of the model with its preprocessing",
        "predicted_at": "when it answered",
        "latitude": "where the picture was taken, decimal degrees, WGS 84: from EXIF, else from the event",
        "longitude": "where",
        "device": "what took it: from the event, else maker and model of the camera from EXIF",
        "uri": "the object that was read, without the query of an address",
        "taken_at": "when the picture was taken, by the clock on the wall there; no zone",
        "taken_at_utc": "the same moment in UTC; null where the offset is not known",
        "happened_at": "when the object was stored, as the event says",
        "event_id": "of the event, as its sender names it",
        "event_source": "who sent the event",
    },
}


def type_name(column: pa.DataType) -> str:
    """An Arrow type in words for a table."""
    if pa.types.is_fixed_size_list(column):
        length = "n" if column.list_size == _ANY_LENGTH else column.list_size
        return f"list of {length} {type_name(column.value_type)}"
    if pa.types.is_list(column):
        return f"list of {type_name(column.value_type)}"
    if pa.types.is_timestamp(column):
        return "time" if column.tz else "time without zone"
    return {"string": "text", "bool": "boolean", "float": "float32", "double": "float64"}.get(str(column), str(column))


def section(name: str) -> str:
    """One table of the lake as a table of the page."""
    columns, what = TABLES[name]
    meanings = MEANINGS[name]
    if set(meanings) != set(columns.names):
        raise SystemExit(f"{name}: meanings and columns differ in {sorted(set(meanings) ^ set(columns.names))}")
    lines = [f"## {name}", "", what, "", "| column | type | meaning |", "|---|---|---|"]
    for field in columns:
        notes = (["key"] if field.metadata else []) + ([] if field.nullable or field.metadata else ["never null"])
        meaning = "; ".join([meanings[field.name], *(f"*{note}*" for note in notes)])
        lines.append(f"| `{field.name}` | {type_name(field.type)} | {meaning} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(name) for name in TABLES)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")

"""Names of files for images: what they were called, unique, and good on every file system."""

from __future__ import annotations

import re

import pyarrow as pa

from imagelake.files import display_name

_SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"), "png": (".png",), "webp": (".webp",), "gif": (".gif",),
    "tiff": (".tif", ".tiff"), "bmp": (".bmp", ".dib"), "avif": (".avif",), "heic": (".heic", ".heif"),
}  # fmt: skip
_NOT_IN_NAMES = re.compile('[\x00-\x1f\x7f<>:"/\\\\|?*\ufffd]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_BYTES = 200  # file systems take 255


def suffix(form: str | None) -> str:
    """The suffix of a format, with its dot."""
    return _SUFFIXES.get(form or "", (".bin",))[0]


def file_names(images: pa.Table) -> list[str]:
    """A name for each image of the columns `id`, `uris`, `format`: its first name, with the right suffix.

    Where two would have the same name, whatever the case of letters, the beginning of the id tells them apart.
    """
    names: list[str] = []
    taken: set[str] = set()
    for image_id, uris, form in zip(*(images.column(c).to_pylist() for c in ("id", "uris", "format")), strict=True):
        stem, end = _split(display_name(uris[0]) if uris else image_id, form)
        name, letters = stem + end, 8
        while name.casefold() in taken:
            name = f"{stem}--{image_id[:letters]}{end}"
            letters += 8
        taken.add(name.casefold())
        names.append(name)
    return names


def _split(name: str, form: str | None) -> tuple[str, str]:
    """Stem and suffix, made safe."""
    name = _NOT_IN_NAMES.sub("_", name).strip(". ") or "image"
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    known = _SUFFIXES.get(form or "", ())
    end = next((name[-len(each) :] for each in known if name.lower().endswith(each)), "")
    stem = name[: len(name) - len(end)] or "image"
    stem = stem.encode()[:_LONGEST_BYTES].decode(errors="ignore").rstrip(". ") or "image"
    return stem, end or suffix(form)

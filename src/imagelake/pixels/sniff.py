"""What a file is, by its first bytes: never by its name, which lies."""

from __future__ import annotations

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib"}
    | {".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"}
)
"""Name endings of the formats that `sniff` knows, lower case with the dot."""

RAW_SUFFIXES: frozenset[str] = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef"}
    | {".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
"""Name endings of camera raw files, which must be developed before they are pictures."""

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # sizes in bytes
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"ID3", "an MP3 sound"),
    (b"OggS", "an Ogg sound or video"),
    (b"fLaC", "a FLAC sound"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"PAR1", "a Parquet table"),
    (b"SQLite format 3", "an SQLite database"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "a Windows icon"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture, which is not supported"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture, which is not supported"),
    (b"\xff\x0a", "a JPEG XL picture, which is not supported"),
    (b"\x00\x00\x00\x0cJXL", "a JPEG XL picture, which is not supported"),
    (b"FUJIFILM", "a camera raw file"),
    (b"IIU\x00", "a camera raw file"),
    (b"IIRO", "a camera raw file"),
    (b"MMOR", "a camera raw file"),
    (b"FOVb", "a camera raw file"),
)


def sniff(head: bytes) -> str | None:
    """Tell the picture format of a file from its first 64 bytes.

    Returns `"jpeg"`, `"png"`, `"webp"`, `"gif"`, `"tiff"`, `"bmp"`, `"avif"`, `"heic"`, or None for anything else.
    Brands of the ISO media formats are those of ISO/IEC 23008-12 and of the AVIF specification; a container brand
    (`mif1`, `msf1`) is AVIF when its compatible brands say so.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(_TIFF_MAGIC):
        return "tiff"
    if (
        head[:2] == b"BM"
        and len(head) >= 18
        and int.from_bytes(head[14:18], "little") in {12, 16, 40, 52, 56, 64, 108, 124}
    ):
        return "bmp"
    return _sniff_media(head)


def _sniff_media(head: bytes) -> str | None:
    """Tell AVIF from HEIC by the brands of the `ftyp` box."""
    if head[4:8] != b"ftyp":
        return None
    box_size = min(int.from_bytes(head[:4], "big"), 64)
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, box_size, 4))]
    if brands[0] in _AVIF_BRANDS:
        return "avif"
    if brands[0] in {b"mif1", b"msf1"} and _AVIF_BRANDS.intersection(brands):
        return "avif"
    return "heic" if _HEIC_BRANDS.intersection(brands) else None


def name_other(head: bytes) -> str:
    """Say in words what bytes are that `sniff` does not know: `"an HTML page"`, `"an unknown kind of file"`."""
    for magic, name in _OTHERS:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "a camera raw file" if head[8:12] == b"crx " else "a video"
    if head[:4] == b"RIFF":
        return "a sound or a video"
    if not head.strip(b"\x00"):
        return "nothing but zero bytes"
    return _name_text(head)


def _name_text(head: bytes) -> str:
    """Name a kind of text, or say that the bytes are unknown."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if text.startswith(b"<svg"):
        return "an SVG drawing, which is not supported"
    if text.startswith(b"<"):
        return "XML or HTML text"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself"
    if text.startswith((b"{", b"[")) and _is_text(head):
        return "JSON text"
    return "text" if _is_text(head) else "an unknown kind of file"


def _is_text(head: bytes) -> bool:
    """Tell whether bytes read as text: no control characters, valid UTF-8 but for a cut at the end."""
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return False
    text = head.decode("utf-8", errors="replace")
    return "\ufffd" not in text[:-1]

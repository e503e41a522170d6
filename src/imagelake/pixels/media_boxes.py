"""The boxes of AVIF and HEIC files that list their items, so that a list without end is not given to a decoder.

Layout: ISO/IEC 14496-12, sections 4.2 and 8.11.
"""

from __future__ import annotations

from imagelake.errors import ImageError

MAX_LIST_BYTES = 65_536
"""Room for two to three thousand tiles; the largest picture has 700 of 512 x 512. Decoders search lists for each item,
and start anew for each tile."""

_LISTS = frozenset({b"iinf", b"iloc", b"iref", b"ipma", b"grpl"})


def check_item_lists(data: bytes) -> None:
    """Refuse a file with a longer list of items.

    Raises:
        ImageError: One of its lists has more than `MAX_LIST_BYTES` bytes.
    """
    for name, start, end in _boxes(data, 0, len(data)):
        if name != b"meta":
            continue
        inner = _boxes(data, start + 4, end)
        deeper = [box for name, start, end in inner if name == b"iprp" for box in _boxes(data, start, end)]
        for part, part_start, part_end in [*inner, *deeper]:
            if part in _LISTS and part_end - part_start > MAX_LIST_BYTES:
                raise ImageError(
                    f"the picture is broken: its list {part.decode()!r} of parts has {part_end - part_start:,} bytes, "
                    f"at most {MAX_LIST_BYTES:,} are read"
                )


def _boxes(data: bytes, position: int, end: int) -> list[tuple[bytes, int, int]]:
    """Name, start and end of what is in each of up to 1,000 boxes side by side."""
    found: list[tuple[bytes, int, int]] = []
    while position + 8 <= end and len(found) < 1000:
        size, start = int.from_bytes(data[position : position + 4], "big"), position + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        elif size == 0:
            size = end - position
        if size < start - position:
            break
        found.append((data[position + 4 : position + 8], start, min(position + size, end)))
        position += size
    return found

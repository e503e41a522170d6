"""The blocks of a GIF: how many frames it has, and that it does not keep a reader busy before the first.

Layout: GIF89a specification, sections 15 to 26.
"""

from __future__ import annotations

from imagelake.errors import ImageError

MAX_BLOCKS_BEFORE = 100_000
"""Blocks of words and extensions before the first frame; Pillow takes ten microseconds for each."""

MAX_BLOCKS = 2_000_000
"""Blocks that are counted in all, in half a second; 256 MiB of whole blocks are half as many."""

_FRAME, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B


def count_gif_frames(data: bytes, most: int) -> int:
    """Return how many frames a GIF has, at least 1 and at most `most`; a cut or broken one has those up to there.

    Raises:
        ImageError: More than `MAX_BLOCKS_BEFORE` blocks come before the first frame.
    """
    frames = blocks = 0
    position = 13 + _table_bytes(data, 10)
    while frames < most and blocks < MAX_BLOCKS and position < len(data):
        kind = data[position]
        limit = MAX_BLOCKS if frames else MAX_BLOCKS_BEFORE + 1
        if kind == _TRAILER:
            break
        if kind == _FRAME and position + 10 < len(data):
            frames += 1
            position += 11 + _table_bytes(data, position + 9)
            position, blocks = _skip_blocks(data, position, blocks, MAX_BLOCKS)
        elif kind == _EXTENSION:
            position, blocks = _skip_blocks(data, position + 2, blocks, limit)
        else:  # a stray byte, which readers skip
            position, blocks = position + 1, blocks + 1
        if not frames and blocks > MAX_BLOCKS_BEFORE:
            raise ImageError(
                f"the picture is broken: the GIF has more than {MAX_BLOCKS_BEFORE:,} blocks before its picture"
            )
    return max(1, frames)


def _table_bytes(data: bytes, position: int) -> int:
    """The size of the color table that the flags at this position announce."""
    flags = data[position] if position < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int, blocks: int, limit: int) -> tuple[int, int]:
    """Go behind the block of no bytes that ends a row of them; return where that is and the blocks so far."""
    while position < len(data) and blocks < limit:
        size = data[position]
        position, blocks = position + 1 + size, blocks + 1
        if size == 0:
            break
    return position, blocks

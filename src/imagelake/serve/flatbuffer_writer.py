"""Write a FlatBuffer with large arrays in it, which are copied once or not at all.

What is small (tables, names, shapes) goes into one head, from the front to the back; what is large stands behind the
head and stays where it is until the message is joined or sent. The library's own builder writes from the back into a
buffer that it enlarges and copies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError

MAX_SIZE = (1 << 31) - 1  # offsets are 32 bits, and some readers take them as signed
_LARGE = 32 << 10  # bytes from which something stands behind the head
_ALIGNMENT = 16  # of what is large, from the start of the message


@dataclass(frozen=True, eq=False)
class Message:
    """A message ready to be sent.

    Attributes:
        size: its bytes.
        pieces: what it is made of, in order: bytes, and arrays that may lie in memory in any order and byte order,
            each with the little-endian type that it has in the message.
    """

    size: int
    pieces: tuple[bytes | bytearray | tuple[NDArray[Any], np.dtype[Any]], ...]

    def parts(self) -> Iterator[memoryview]:
        """Its bytes in parts, without a copy of any large array that is little-endian and C-contiguous.

        They look into those arrays: do not change them before the parts are sent.
        """
        for piece in self.pieces:
            if isinstance(piece, tuple):
                array, dtype = piece
                yield np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data
            else:
                yield memoryview(piece)

    def join(self, into: NDArray[np.uint8] | None = None) -> memoryview:
        """Its bytes in one buffer; every array is copied once.

        Args:
            into: uint8, contiguous, at least `size` long, where the bytes go; without, a new buffer. One that is used
                again and again saves the time that fresh memory takes.

        Raises:
            InputError: `into` is too short.
        """
        if into is not None and into.nbytes < self.size:
            raise InputError(f"The message has {self.size:,} bytes, and the buffer {into.nbytes:,}. Give a longer one.")
        target = np.empty(self.size, np.uint8) if into is None else into[: self.size]
        at = 0
        for piece in self.pieces:
            if isinstance(piece, tuple):
                array, dtype = piece
                end = at + array.size * dtype.itemsize
                np.copyto(target[at:end].view(dtype).reshape(array.shape), array)
            else:
                end = at + len(piece)
                target[at:end] = np.frombuffer(piece, np.uint8)
            at = end
        return target.data


class Writer:
    """Writes one message, its tables before what they point to. A place is a byte of the head."""

    def __init__(self) -> None:
        self._head = bytearray(4)
        self._layouts: dict[bytes, int] = {}
        self._large: list[tuple[int, NDArray[Any], np.dtype[Any], bytes]] = []  # place of the offset, what, tail

    def table(self, at: int, widths: Sequence[int]) -> list[int]:
        """Write a table of zeros.

        Args:
            at: the place of the offset that is to point to it; 0 for the root.
            widths: bytes of its fields by slot; 0 for one that is absent. The largest is 4.

        Returns:
            The places of the fields.
        """
        offsets, extent = [], 4
        for width in widths:
            if width == 4:
                extent = -(-extent // 4) * 4
            offsets.append(extent if width else 0)
            extent += width
        extent = -(-extent // 4) * 4
        layout = struct.pack(f"<{len(widths) + 2}H", 4 + 2 * len(widths), extent, *offsets)
        if layout not in self._layouts:
            self._pad(2)
            self._layouts[layout] = len(self._head)
            self._head += layout
        start = self._point(at, 4)
        self._head += struct.pack("<i", start - self._layouts[layout]) + bytes(extent - 4)
        return [start + offset for offset in offsets]

    def byte(self, at: int, value: int) -> None:
        """Write a uint8."""
        self._head[at] = value

    def string(self, at: int, data: bytes) -> None:
        """Write a string, and point to it."""
        if len(data) >= _LARGE:
            self._large.append((at, np.frombuffer(data, np.uint8), np.dtype(np.uint8), b"\0"))
            return
        self._point(at, 4)
        self._head += struct.pack("<I", len(data)) + data + b"\0"

    def int64s(self, at: int, values: Sequence[int]) -> None:
        """Write a vector of int64, and point to it."""
        self._point(at, 8, behind=4)
        self._head += struct.pack(f"<I{len(values)}q", len(values), *values)

    def offsets(self, at: int, count: int) -> range:
        """Write a vector of offsets, and point to it.

        Returns:
            The places of the offsets.
        """
        start = self._point(at, 4)
        self._head += struct.pack("<I", count) + bytes(4 * count)
        return range(start + 4, start + 4 + 4 * count, 4)

    def array(self, at: int, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
        """Write the numbers of an array as bytes in row-major order, and point to them.

        Args:
            at: the place of the offset.
            array: of any layout and byte order.
            dtype: its type, little-endian.
        """
        if array.nbytes >= _LARGE:
            self._large.append((at, array, dtype, b""))
            return
        self._point(at, _ALIGNMENT, behind=4)
        self._head += struct.pack("<I", array.nbytes) + array.astype(dtype, copy=False).tobytes()

    def finish(self) -> Message:
        """The message.

        Raises:
            InputError: it is too large.
        """
        pieces: list[bytes | bytearray | tuple[NDArray[Any], np.dtype[Any]]] = [self._head]
        end, tail = len(self._head), b""
        for at, array, dtype, next_tail in self._large:
            start = -(-(end + len(tail) + 4) // _ALIGNMENT) * _ALIGNMENT
            if start + array.nbytes > MAX_SIZE:
                break
            struct.pack_into("<I", self._head, at, start - 4 - at)
            pieces.append(tail + bytes(start - 4 - end - len(tail)) + struct.pack("<I", array.nbytes))
            pieces.append((array, dtype))
            end, tail = start + array.nbytes, next_tail
        else:
            if end + len(tail) <= MAX_SIZE:
                return Message(end + len(tail), tuple([*pieces, tail] if tail else pieces))
        raise InputError(f"The message has more than {MAX_SIZE:,} bytes. Send the batch in parts.")

    def _pad(self, alignment: int, *, behind: int = 0) -> None:
        self._head += bytes(-(len(self._head) + behind) % alignment)

    def _point(self, at: int, alignment: int, *, behind: int = 0) -> int:
        """Let the offset at a place point to what is written next; `behind` bytes later it is aligned."""
        self._pad(alignment, behind=behind)
        struct.pack_into("<I", self._head, at, len(self._head) - at)
        return len(self._head)

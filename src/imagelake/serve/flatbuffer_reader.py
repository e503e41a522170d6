"""Read a FlatBuffer that nobody has checked: every offset and every length is, before it is used.

The FlatBuffers library for Python verifies nothing. Here bytes that lie cost an error: never a view outside of them,
and never memory beyond a small multiple of their length. Reading is lenient where writers differ: any alignment,
strings with or without a NUL behind them, fields that are absent.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from imagelake.errors import InputError, TooLargeError

_U16_PAIR = struct.Struct("<HH")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_SLOTS = 16  # fields of a table that are looked at: more than any of our tables has


class ManyStringsError(TooLargeError):
    """A message has more strings than are to be read."""


class Reader:
    """A buffer that is read.

    Args:
        buffer: its bytes, contiguous; they must not change while what was read from them is in use.
        name: of the form, as errors call it.
        max_strings: how many strings may be read in all.

    Attributes:
        view: the buffer, read-only.
        size: its bytes.
    """

    def __init__(self, buffer: bytes | bytearray | memoryview, name: str, *, max_strings: int) -> None:
        self.view = memoryview(buffer).toreadonly()
        if self.view.format != "B" or self.view.ndim != 1:
            self.view = self.view.cast("B")
        self.size = self.view.nbytes
        self._name = name
        self._max_strings = max_strings
        self._strings = 0
        self._unread = self.size  # honest strings and vectors do not overlap: together they fit into the buffer

    def fail(self, reason: str) -> NoReturn:
        """Say what is wrong with the bytes.

        Raises:
            InputError: always.
        """
        raise InputError(f"These {self.size:,} bytes are no {self._name}: {reason}. Send the message whole and alone.")

    def root(self) -> Table:
        """The table that the first bytes point to.

        Raises:
            InputError: there is none.
        """
        if self.size < 8:
            self.fail("they are too few")
        return self.table(self.follow(0))

    def follow(self, at: int) -> int:
        """Where the offset at a place, which lies inside the buffer, points: at least 4 bytes are there."""
        target: int = at + _U32.unpack_from(self.view, at)[0]
        if not at + 4 <= target <= self.size - 4:
            self.fail(f"the offset at byte {at} points outside")
        return target

    def table(self, at: int) -> Table:
        """The table at a place where at least 4 bytes are."""
        vtable: int = at - _I32.unpack_from(self.view, at)[0]
        if not 0 <= vtable <= self.size - 4:
            self.fail(f"the table at byte {at} has its layout outside")
        length, extent = _U16_PAIR.unpack_from(self.view, vtable)
        if length < 4 or length % 2 or vtable + length > self.size:
            self.fail(f"the table layout at byte {vtable} is wrong")
        if extent < 4 or at + extent > self.size:
            self.fail(f"the table at byte {at} is cut off")
        count = min(length // 2 - 2, _SLOTS)
        return Table(self, at, extent, struct.unpack_from(f"<{count}H", self.view, vtable + 4))

    def vector(self, at: int, item_size: int) -> tuple[int, int]:
        """Where the items of the vector at a place begin, and how many there are; all of them lie inside."""
        count: int = _U32.unpack_from(self.view, at)[0]
        if count * item_size > self.size - at - 4:
            self.fail(f"the vector at byte {at} says that it has {count:,} items, more than there are")
        return at + 4, count

    def spend(self, length: int) -> None:
        """Count bytes that are read out: what overlaps would be there many times over."""
        self._unread -= length
        if self._unread < 0:
            self.fail("its parts overlap")

    def string(self, at: int) -> bytes:
        """The string at a place where at least 4 bytes are, as long as it says, whatever stands behind it."""
        self._strings += 1
        if self._strings > self._max_strings:
            raise ManyStringsError(f"The message has more than {self._max_strings:,} strings. Send it in parts.")
        start, length = self.vector(at, 1)
        self.spend(length)
        return bytes(self.view[start : start + length])


class Table:
    """A table that lies inside its buffer; its fields are checked when they are read.

    Args:
        reader: of the buffer.
        at: where it is.
        extent: its bytes.
        offsets: of the fields from its start, by slot; 0 for absent.
    """

    __slots__ = ("_at", "_extent", "_offsets", "reader")

    def __init__(self, reader: Reader, at: int, extent: int, offsets: tuple[int, ...]) -> None:
        self.reader = reader
        self._at = at
        self._extent = extent
        self._offsets = offsets

    def _field(self, slot: int, width: int) -> int | None:
        """Where a field is; None for one that is absent."""
        offset = self._offsets[slot] if slot < len(self._offsets) else 0
        if offset == 0:
            return None
        if offset < 4 or offset + width > self._extent:
            self.reader.fail(f"field {slot} of the table at byte {self._at} lies outside of it")
        return self._at + offset

    def byte(self, slot: int) -> int:
        """A uint8; 0 where it is absent."""
        at = self._field(slot, 1)
        return 0 if at is None else self.reader.view[at]

    def int64(self, slot: int) -> int:
        """An int64; 0 where it is absent."""
        at = self._field(slot, 8)
        return 0 if at is None else int(struct.unpack_from("<q", self.reader.view, at)[0])

    def table(self, slot: int) -> Table | None:
        """A table; None where it is absent."""
        at = self._field(slot, 4)
        return None if at is None else self.reader.table(self.reader.follow(at))

    def string(self, slot: int) -> bytes:
        """A string; empty where it is absent."""
        at = self._field(slot, 4)
        return b"" if at is None else self.reader.string(self.reader.follow(at))

    def text(self, slot: int) -> str:
        """A string that people read.

        Raises:
            InputError: it is no UTF-8.
        """
        return decode_text(self.reader, self.string(slot))

    def vector(self, slot: int, item_size: int) -> tuple[int, int]:
        """Where the items of a vector begin, and how many there are; 0 and 0 where it is absent."""
        at = self._field(slot, 4)
        return (0, 0) if at is None else self.reader.vector(self.reader.follow(at), item_size)

    def int64s(self, slot: int, most: int) -> tuple[int, ...]:
        """The int64 numbers of a vector.

        Raises:
            TooLargeError: there are more than `most`.
        """
        start, count = self._counted(slot, 8, most)
        return struct.unpack_from(f"<{count}q", self.reader.view, start)

    def tables(self, slot: int, most: int) -> list[Table]:
        """The tables of a vector.

        Raises:
            TooLargeError: there are more than `most`.
        """
        start, count = self._counted(slot, 4, most)
        reader = self.reader
        return [reader.table(reader.follow(at)) for at in range(start, start + 4 * count, 4)]

    def strings(self, slot: int, most: int) -> list[bytes]:
        """The strings of a vector.

        Raises:
            TooLargeError: there are more than `most`.
        """
        start, count = self._counted(slot, 4, most)
        reader = self.reader
        return [reader.string(reader.follow(at)) for at in range(start, start + 4 * count, 4)]

    def texts(self, slot: int, most: int) -> tuple[str, ...]:
        """The strings of a vector, which people read."""
        return tuple(decode_text(self.reader, each) for each in self.strings(slot, most))

    def _counted(self, slot: int, item_size: int, most: int) -> tuple[int, int]:
        start, count = self.vector(slot, item_size)
        if count > most:
            raise TooLargeError(f"The message has {count:,} things in a list of at most {most:,}. Send it in parts.")
        return start, count


def decode_text(reader: Reader, data: bytes) -> str:
    """Bytes of a buffer as text.

    Raises:
        InputError: they are no UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        reader.fail(f"the name {data[:40]!r} is no UTF-8")

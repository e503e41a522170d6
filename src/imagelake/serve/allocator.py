"""Memory of the C library, for a process that takes and frees the body of a request again and again."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD = -1  # as malloc.h of the GNU C library counts its parameters
_MMAP_THRESHOLD = -3
_LARGEST = 32 << 20  # above this a block always comes fresh from the system


def keep_freed_memory(kept: int = 128 << 20) -> bool:
    """Let the C library keep memory that was freed for the next request.

    Otherwise it gives blocks of some hundred kilobytes back to the system and takes them again for each request, and
    every page of them costs a fault: on a virtual machine more than all else that is done for the request.

    Args:
        kept: bytes at the end of the heap that the process holds on to.

    Returns:
        Whether this C library can do that: the GNU one can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, kept))

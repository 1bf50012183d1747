"""Settings of the C library's malloc."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
LARGEST = 2**29
"""Bytes of one block that is kept, and of free memory at the end of the heap that is not given back."""


def keep_freed_memory() -> bool:
    """Keep freed arrays for reuse; glibc by default returns large ones to the system and maps new pages each time.

    Halves the time of an image's transforms and takes a tenth off a detector's prediction. It holds for the rest of the
    process, so that commands and workers call it and the library does not.

    Returns:
        bool: whether the C library has this setting (Linux with glibc).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))

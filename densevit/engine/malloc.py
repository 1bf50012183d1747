"""What the C library does with memory that was freed."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
LARGEST = 2**29
"""Bytes of one block that is kept, and of free memory at the end of the heap that is not given back."""


def keep_freed_memory() -> bool:
    """glibc gives each large array back to the system when it is freed and asks for the next, page by page; to keep it
    halves what a picture costs on its way through the transforms, and takes a tenth from a detector's prediction. For
    the rest of this process: for tools and workers, which make arrays of a few sizes again and again; a library's user
    decides that alone. Returns whether the C library has that setting (Linux with glibc)."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))

"""Folders of images and labels in the formats that people have: recognized, read into COCO format in memory, written.

A format is a module with TASK, `recognize(tree) -> evidence or None` and `read(tree) -> FolderData`, and one line in
FORMATS. A folder is never written to, but by `write_split`.
"""

from densevit.datasets.formats.folder_data import DEPTH, OBJECTS, SEMANTIC, FolderData, Split
from densevit.datasets.formats.reading import FORMATS, read_folder, recognize_folder
from densevit.datasets.formats.recipe import dataset_configs
from densevit.datasets.formats.splits import write_split
from densevit.datasets.formats.writers import WRITERS, write_folder

__all__ = [
    "DEPTH",
    "FORMATS",
    "OBJECTS",
    "SEMANTIC",
    "WRITERS",
    "FolderData",
    "Split",
    "dataset_configs",
    "read_folder",
    "recognize_folder",
    "write_folder",
    "write_split",
]

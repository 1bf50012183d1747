"""The classes that a checkpoint was trained on must be those of the data set that it is tested on."""

import pytest

from densevit.datasets.semantic_classes import semantic_classes
from densevit.engine.testing import compare_classes
from densevit.errors import CheckpointError

OURS = dict(classes=semantic_classes("ade20k").names, ann_file="maps")


def test_mmsegmentations_names_of_ade20k_are_ours():
    """It writes one of them, 'bed ', with a blank."""
    theirs = [f"{name} " if name == "bed" else name for name in OURS["classes"]]
    compare_classes("x.pth", dict(classes=theirs), OURS)
    segmentor = pytest.importorskip("mmseg.datasets").ADE20KDataset
    compare_classes("x.pth", dict(segmentor.METAINFO), OURS)


def test_other_classes_are_named():
    swapped = [*OURS["classes"][:2], "water", *OURS["classes"][3:]]
    with pytest.raises(CheckpointError, match="'water' as class 2, where maps has 'sky'"):
        compare_classes("x.pth", dict(classes=swapped), OURS)
    with pytest.raises(CheckpointError, match="trained on 149 classes and maps has 150"):
        compare_classes("x.pth", dict(classes=OURS["classes"][:-1]), OURS)

"""Parameters and multiply-adds of the recipes are those of the papers' tables."""

import subprocess
import sys

import pytest

from densevit.archs import SWIN as ARCHS
from densevit.engine.config import read_config
from densevit.engine.model_info import model_info

# million parameters and thousand million multiply-adds at 800x1280, as the papers' repositories state them
PUBLISHED = [
    ("swin_maskrcnn_coco", "tiny", 48, 267),
    ("swin_maskrcnn_coco", "small", 69, 359),
    ("swin_cascade_coco", "tiny", 86, 745),
    ("swin_cascade_coco", "base", 145, 982),
    ("pvt_maskrcnn_coco", "tiny", 32.9, 240),
    ("pvt_maskrcnn_coco", "small", 44.1, 305),
    ("pvt_maskrcnn_coco", "medium", 63.9, 392),
    ("pvt_maskrcnn_coco", "large", 81.0, 494),
]


@pytest.mark.parametrize(("recipe", "arch", "parameters", "multiply_adds"), PUBLISHED)
def test_recipes_have_the_published_size_and_work(recipe, arch, parameters, multiply_adds):
    parts = model_info(read_config(recipe, {"model.backbone.arch": arch}), (800, 1280))
    assert sum(part.parameters for part in parts) / 1e6 == pytest.approx(parameters, abs=0.5)
    done = sum(part.multiply_adds for part in parts)
    if recipe.startswith("swin"):
        done += projections_of_padding(arch, (200, 320))
    assert done / 1e9 == pytest.approx(multiply_adds, rel=0.003)


def projections_of_padding(arch: str, size: tuple[int, int]) -> int:
    """Multiply-adds of what Swin's published code also projects, to and from attention: the zeros that complete a map
    to whole windows of 7 x 7."""
    work, dim = 0, ARCHS[arch]["embed_dim"]
    for depth in ARCHS[arch]["depths"]:
        height, width = size
        zeros = -(-height // 7) * 7 * (-(-width // 7) * 7) - height * width
        work += depth * zeros * 4 * dim**2
        size, dim = (-(-height // 2), -(-width // 2)), 2 * dim
    return work


def test_the_tool_prints_a_line_a_part(root):
    command = [sys.executable, "tools/model_info.py", "pvt_maskrcnn_scenes", "--classes", "12", "--size", "192", "192"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["part", "backbone", "neck", "head.rpn", "head.box", "head.mask", "in"]

"""torch.compile takes backbones, necks and dense heads whole, and not anew for each image."""

from itertools import pairwise

import matrix
import pytest
import tiny
import torch
from test_matrix import DIAGONAL
from torch._dynamo.testing import CompileCounter

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.registry import MODELS

SIZES = ((64, 96), (96, 128), (128, 160), (160, 96))
# with an offset the table would be resized by a constant of each size
VIT = dict(matrix.PLAIN["ViT"], pos_embed=dict(prefix_rows=0))
PYRAMID, PLAIN = dict(type="FPN", out_channels=8, num_levels=4), [matrix._REASSEMBLE, matrix._FUSION]
DETECTOR = dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1)
ONE_GRAPH_A_SIZE = {"Swin": [PYRAMID], "PVTv2": [dict(type="UPerNet", channels=8)]}


def build(backbone: dict, neck: list | dict, head: dict):
    torch.manual_seed(0)
    return MODELS.build(
        dict(type="DensePredictor", backbone=backbone, neck=neck, head=head, classes=("a", "b", "c"))
    ).eval()


def tiny_backbone(name: str) -> dict:
    return dict(type=name, **tiny.BACKBONES[name][0])


def graphs(model, sizes, **options) -> list[int]:
    """How many graphs the model has after each size; what it gives is compared with what it gives uncompiled."""
    torch._dynamo.reset()
    counter, images = CompileCounter(), [torch.rand(1, 3, *size) for size in sizes]
    with torch.no_grad():
        plain = [tensors(model(x)) for x in images]
        model.compile(backend=counter, **options)
        counts = []
        for x, wanted in zip(images, plain, strict=True):
            for got, want in zip(tensors(model(x)), wanted, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
            counts.append(counter.frame_count)
    return counts


def tensors(found) -> list[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        return [found]
    return [x for part in (found.values() if isinstance(found, dict) else found) for x in tensors(part)]


@pytest.mark.parametrize(("name", "chain", "backbone", "necks", "heads"), DIAGONAL)
def test_every_part_is_one_graph(name, chain, backbone, necks, heads):
    model = MODELS.build(matrix.model(backbone, necks, heads)).eval()
    parts = 1 + len(necks) + len(heads)
    assert graphs(model, SIZES[:1], fullgraph=True) == [parts]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PVT", "PVTv2", "ViT"])
def test_a_pyramid_detector_is_compiled_for_two_sizes_and_serves_all(name):
    backbone, necks = tiny_backbone(name), [PYRAMID]
    if name == "ViT":
        backbone, necks = VIT, [matrix._LEVELS, PYRAMID]
    first, second, *rest = graphs(build(backbone, necks, DETECTOR), SIZES, fullgraph=True)
    assert first == 2 + len(necks)
    assert second == 2 * first
    assert set(rest) == {second}


def test_dpt_is_compiled_for_two_sizes_and_serves_all():
    first, second, *rest = graphs(build(VIT, PLAIN, dict(type="DPTDepthHead")), SIZES, fullgraph=True)
    assert (first, second) == (4, 8)
    assert set(rest) == {8}


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_GRAPH_A_SIZE)
def test_what_holds_constants_of_a_size_makes_one_graph_for_each(name):
    model = build(tiny_backbone(name), ONE_GRAPH_A_SIZE[name], dict(type="FCNHead", num_convs=0, in_index=0))
    counts = graphs(model, SIZES[:3], fullgraph=True)
    assert all(b - a <= 3 for a, b in pairwise([0, *counts])), counts


def test_beyond_the_limit_of_graphs_a_part_goes_on_uncompiled():
    model = build(tiny_backbone("PVTv2"), ONE_GRAPH_A_SIZE["PVTv2"], dict(type="FCNHead", num_convs=0))
    with torch._dynamo.config.patch(recompile_limit=2):
        counts = graphs(model, SIZES)  # whose values are compared, too
    assert counts[-1] <= 2 * 3


def test_of_two_stages_the_first_is_compiled():
    model = build(tiny_backbone("PVTv2"), PYRAMID, matrix.head("MaskRCNNHead", False))
    assert graphs(model, SIZES[:1], fullgraph=True) == [3]
    found = model.test_step(tiny.batch())
    assert len(found) == 2


def test_a_machine_without_a_compiler_is_reported(monkeypatch, tmp_path):
    from torch._inductor import config, cpp_builder

    torch._dynamo.reset()
    cpp_builder.cpp_compiler_search.cache_clear()
    monkeypatch.setattr(config.cpp, "cxx", (None, str(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"No working C\+\+ compiler.*install a C\+\+ compiler"):
        MODELS.build(tiny.model_config()).compile()
    cpp_builder.cpp_compiler_search.cache_clear()


FAST = (("ViT", 4), ("MViTv2", 0))
"""Those that have windows and the whole map, whose constants differ in size."""


@pytest.mark.parametrize(
    ("name", "i"),
    [
        pytest.param(name, i, id=f"{name}-{i}", marks=() if (name, i) in FAST else pytest.mark.slow)
        for name in tiny.BACKBONES
        for i in range(len(tiny.BACKBONES[name]))
    ],
)
def test_a_backbone_is_compiled_in_inference_mode_and_exported(name, i):
    """Also after it has run: what is kept by size was made outside of the graph."""
    torch.manual_seed(0)
    backbone, images = MODELS.build(dict(tiny.BACKBONES[name][i], type=name)).eval(), torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        wanted = backbone(images)
    torch._dynamo.reset()
    with torch.inference_mode():
        backbone.compile(backend="eager", fullgraph=True)
        compiled = backbone(images)
    plain = MODELS.build(dict(tiny.BACKBONES[name][i], type=name)).eval()
    plain.load_state_dict(backbone.state_dict())
    exported = torch.export.export(plain, (images,)).module()(images)
    for found in (compiled, exported, plain(images)):
        for got, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)

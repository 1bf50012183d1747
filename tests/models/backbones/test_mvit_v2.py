"""MViTv2: published sizes, which block sees how far, equal forms of the same computation."""

import pytest
import torch
from mmengine.config import Config

from densevit.engine.model_info import model_info
from densevit.errors import ConfigError
from densevit.models.backbones.mvit_v2 import MViTv2

TINY = dict(embed_dims=(8, 16, 32, 64), depths=(1, 2, 2, 2), num_heads=(1, 2, 2, 4), mlp_ratio=2)
VITDET_HEAD = dict(
    type="CascadeRCNNHead",
    rpn=dict(num_convs=2),
    box=dict(num_convs=4, num_fcs=1, norm="LN"),
    mask=dict(norm="LN"),
    mask_each_stage=False,
)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter away from ones and zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


@pytest.mark.parametrize(
    ("arch", "growth", "published"),
    [
        ("tiny", "attention", 24.2),
        ("small", "attention", 34.9),
        ("base", "attention", 51.5),
        ("large", "mlp", 218.0),
    ],
)
def test_it_has_the_published_number_of_parameters(arch, growth, published):
    """The classifier's: ours and its linear layer of 1000 classes."""
    with torch.device("meta"):
        backbone = MViTv2(arch, grow_in=growth, output_norm="last")
    ours = sum(p.numel() for p in backbone.parameters()) + 1001 * backbone.out_channels[-1] - backbone.out_channels[-1]
    assert round((ours + 1000) / 1e6, 1) == published


@pytest.mark.parametrize(
    ("arch", "options", "head", "millions", "billions"),
    [
        ("tiny", {}, dict(type="MaskRCNNHead"), 44, 279),
        ("tiny", {}, VITDET_HEAD, 76, 701),
        ("small", {}, VITDET_HEAD, 87, 748),
        ("base", {}, VITDET_HEAD, 103, 814),
        pytest.param("large", dict(grow_in="mlp"), VITDET_HEAD, 270, 1519, marks=pytest.mark.slow),
        pytest.param("huge", {}, VITDET_HEAD, 718, 3084, marks=pytest.mark.slow),
    ],
)
def test_detectors_have_the_published_parameters_and_work(arch, options, head, millions, billions):
    backbone, neck = dict(type="MViTv2", arch=arch, **options), dict(type="FPN", out_channels=256, num_levels=5)
    model = dict(type="DensePredictor", backbone=backbone, neck=neck, head=head)
    parts = model_info(Config(dict(model=model)), (800, 1280))
    assert round(sum(part.parameters for part in parts) / 1e6) == millions
    assert sum(part.multiply_adds for part in parts) / 1e9 == pytest.approx(billions, rel=0.006)


def test_hybrid_windows_halve_one_block_after_the_resolution_and_last_blocks_see_everything():
    """MViTv2-T of section 4.3: the strides of keys in the last blocks of stages 2 and 3 are doubled."""
    with torch.device("meta"):
        hybrid, whole = MViTv2("tiny"), MViTv2("tiny", window_size=0, pooling=dict(double_kv_stride=False))
    windows = [block.attn.q_window * block.attn.q_stride for block in hybrid.blocks]
    assert windows == [56, 56, 0, 28, 14, 14, 14, 0, 14, 0]
    assert [block.attn.q_stride for block in hybrid.blocks] == [1, 2, 1, 2, 1, 1, 1, 1, 2, 1]
    assert [block.attn.kv_stride for block in hybrid.blocks] == [4, 2, 4, 1, 1, 1, 1, 2, 1, 1]
    assert [block.attn.kv_stride for block in whole.blocks] == [4, 2, 2, 1, 1, 1, 1, 1, 1, 1]
    assert not any(block.attn.q_window for block in whole.blocks)
    assert {k: v.shape for k, v in hybrid.state_dict().items()} == {k: v.shape for k, v in whole.state_dict().items()}


def test_channels_grow_in_the_first_block_of_a_stage_or_in_the_mlp_before_it():
    attention, mlp = MViTv2(TINY), MViTv2(TINY, grow_in="mlp")
    assert attention.out_channels == (8, 16, 32, 64)
    assert mlp.out_channels == (16, 32, 64, 64)
    assert [tuple(b.proj.weight.shape) for b in attention.blocks if hasattr(b, "proj")] == [(16, 8), (32, 16), (64, 32)]
    assert [i for i, b in enumerate(attention.blocks) if hasattr(b, "proj")] == [1, 3, 5]
    assert [i for i, b in enumerate(mlp.blocks) if hasattr(b, "proj")] == [0, 2, 4]


@pytest.mark.parametrize("options", [dict(), dict(window_size=0), dict(window_size=0, class_token=True)])
def test_every_parameter_gets_a_gradient_of_its_own(options):
    backbone = drawn(MViTv2(TINY, img_size=64, **{"window_size": 16, **options})).train()
    sum((x * torch.randn_like(x)).sum() for x in backbone(torch.rand(2, 3, 101, 75))).backward()
    dead = [name for name, p in backbone.named_parameters() if not p.grad.abs().max() > 0]
    assert not dead, dead


@pytest.mark.parametrize("window", [16, 0])
def test_training_and_prediction_compute_the_same(window):
    """A bias that is trained takes another form of attention than one that is not."""
    backbone = drawn(MViTv2(TINY, img_size=64, window_size=window))
    images = torch.rand(2, 3, 70, 90)
    with torch.no_grad():
        frozen = backbone(images)
    for x, y in zip(frozen, backbone(images), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_a_window_larger_than_the_map_is_the_whole_map_less_its_empty_places():
    """Empty keys are zeros that take part: they draw attention off, and nothing comes of them."""
    windowed, whole = MViTv2(TINY, img_size=64, window_size=32), MViTv2(TINY, img_size=64, window_size=0)
    whole.load_state_dict(drawn(windowed).state_dict())
    fits, small = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(windowed(fits)[0], whole.eval()(fits)[0], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(windowed(small)[0], whole(small)[0], atol=1e-3)


def test_the_norms_of_the_maps_are_not_fed_forward():
    backbone = drawn(MViTv2(TINY, img_size=64, window_size=16))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(image)
        backbone.scale2_norm.weight.mul_(3)
        after = backbone(image)
    assert not torch.allclose(before[0], after[0])
    for x, y in zip(before[1:], after[1:], strict=True):
        assert torch.equal(x, y)


def test_absolute_positions_leave_the_row_of_a_class_token_out_and_are_resized():
    options = dict(img_size=64, window_size=0, absolute_positions=True)
    with_token, without = drawn(MViTv2(TINY, class_token=True, **options)), MViTv2(TINY, **options)
    state = {k: v for k, v in with_token.state_dict().items() if k != "cls_token"}
    without.load_state_dict(state)
    assert torch.equal(without.pos_embed, with_token.pos_embed[:, 1:])
    larger = MViTv2(TINY, class_token=True, **{**options, "img_size": 96})
    larger.load_state_dict(with_token.state_dict())
    assert torch.equal(larger.pos_embed[:, 0], with_token.pos_embed[:, 0])
    with torch.no_grad():  # a larger image's table is the smaller one, resized
        tokens = larger.eval().embed(torch.zeros(1, 3, 96, 96))[0]
        same = with_token.embed(torch.zeros(1, 3, 96, 96))[0]
        torch.testing.assert_close(tokens, same)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (dict(arch="tinny"), "'tiny'"),
        (dict(window_size=50), "no multiple"),
        (dict(class_token=True), "window_size=0"),
        (dict(grow_in="head"), "grow_in"),
        (dict(output_norm="all"), "output_norm"),
        (dict(out_indices=(4,)), "out_indices"),
    ],
)
def test_wrong_options_are_named(args, said):
    with pytest.raises(ConfigError, match=said):
        MViTv2(**{"arch": TINY, **args})


@pytest.mark.slow
@pytest.mark.parametrize("window", [16, 0])
def test_torch_compile_takes_it_whole_also_at_a_second_size(window):
    backbone = drawn(MViTv2(TINY, img_size=64, window_size=window))
    compiled = torch.compile(backbone, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        for size in ((64, 96), (70, 90)):
            images = torch.rand(1, 3, *size)
            for x, y in zip(compiled(images), backbone(images), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)

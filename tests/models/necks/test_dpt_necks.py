"""DPT's necks: what the class token adds, what the fusion computes, and its two ways with odd sizes."""

import pytest
import tiny
import torch
import torch.nn.functional as F

from densevit.errors import ConfigError
from densevit.models.necks.fusion import DPTFusion
from densevit.models.necks.reassemble import DPTReassemble
from densevit.registry import MODELS

WIDTHS = dict(channels=(4, 8, 16, 16))


def test_readouts_leave_out_add_or_mix_the_class_tokens_channels():
    own, token = torch.randn(2, 6, 3, 5), torch.randn(2, 6, 1, 1).expand(2, 6, 3, 5)
    both = torch.cat((own, token), 1)
    one = dict(channels=(4,), scales=(1,), in_strides=(16,))
    ignore, add = DPTReassemble((6,), **one), DPTReassemble((12,), **one, readout="add")
    add.load_state_dict(ignore.state_dict())
    torch.testing.assert_close(add([both])[0], ignore([own + token])[0])
    project = DPTReassemble((12,), **one, readout="project")
    weight, bias = project.readout_projects[0][0].weight[:, :, 0, 0], project.readout_projects[0][0].bias
    mixed = F.gelu(torch.einsum("oi,bihw->bohw", weight, both) + bias[:, None, None])
    torch.testing.assert_close(project([both])[0], project.projects[0](mixed))


def test_levels_of_patches_of_16_and_14_have_strides_4_to_32_and_3_and_a_half_to_28():
    for patch, strides in ((16, (4, 8, 16, 32)), (14, (3.5, 7, 14, 28))):
        neck = DPTReassemble((8,) * 4, (patch,) * 4, **WIDTHS)
        assert neck.out_strides == strides
        sizes = [tuple(x.shape[2:]) for x in neck([torch.rand(1, 8, 5, 7)] * 4)]
        assert sizes == [(20, 28), (10, 14), (5, 7), (3, 4)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(readout="projekt"), "nearest: 'project'"),
        (dict(in_channels=(8,) * 3), "but 3 maps come in"),
        (dict(scales=(4, 2, 1, 0.3)), "cannot resize by 0.3"),
        (dict(scales=(4, 2, 1.5, 0.5)), "cannot resize by 1.5"),
        (dict(in_channels=(9,) * 4, readout="add"), r"tokens=dict\(append_cls=True\)"),
    ],
)
def test_what_does_not_fit_a_reassembling_is_reported(settings, said):
    with pytest.raises(ConfigError, match=said):
        DPTReassemble(**dict(in_channels=(8,) * 4, in_strides=(16,) * 4, **WIDTHS) | settings)


def residual(x, unit):
    inner = unit.norm1(unit.conv1(F.relu(x)))
    return x + unit.norm2(unit.conv2(F.relu(inner)))


@pytest.mark.parametrize("norm", [None, "BN"])
def test_fusion_is_the_papers_with_the_1x1_convolution_behind_the_enlargement(norm):
    torch.manual_seed(0)
    neck = DPTFusion((4, 6, 8), (4, 8, 16), channels=5, norm=norm).eval()
    maps = [torch.randn(2, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate((4, 6, 8))]
    path = None
    for block, conv, x in zip(neck.blocks, neck.lateral_convs[::-1], maps[::-1], strict=True):
        x = conv(x)
        path = x if path is None else path + residual(x, block.unit1)
        path = F.interpolate(residual(path, block.unit2), scale_factor=2, mode="bilinear", align_corners=True)
        path = block.out_conv(path)
    found = neck(maps)
    assert len(found) == 1
    torch.testing.assert_close(found[0], path, rtol=1e-4, atol=1e-5)
    assert (neck.blocks[1].unit1.conv1.bias is None) == (norm == "BN")
    assert neck.blocks[0].unit1 is None  # the coarsest map has nothing beside it


def test_odd_sizes_follow_the_finer_maps_or_the_doubled_path():
    maps = [torch.rand(1, 4, *size) for size in ((28, 44), (14, 22), (7, 11), (4, 6))]
    settings = dict(in_channels=(4,) * 4, in_strides=(4, 8, 16, 32), channels=4)
    path, skip = DPTFusion(**settings), DPTFusion(**settings, fit="skip")
    skip.load_state_dict(path.state_dict())
    assert path(maps)[0].shape[2:] == (56, 88)
    assert skip(maps)[0].shape[2:] == (64, 96)
    even = [torch.rand(1, 4, 16 // 2**i, 32 // 2**i) for i in range(4)]
    assert torch.equal(path(even)[0], skip(even)[0])


@pytest.mark.parametrize(("settings", "said"), [(dict(norm="LN"), "norm='LN'"), (dict(fit="none"), "fit='none'")])
def test_what_fusion_does_not_know_is_reported(settings, said):
    with pytest.raises(ConfigError, match=said):
        DPTFusion((4, 4), (4, 8), **settings)


@pytest.mark.parametrize("backbone", ["Swin", "PVTv2", "SwinV2"])
def test_fusion_works_on_the_pyramid_of_a_hierarchical_backbone(backbone):
    config = dict(type=backbone, **tiny.BACKBONES[backbone][0])
    head = dict(type="DPTDepthHead", kind="sigmoid", max_depth=10.0)
    model = MODELS.build(
        dict(type="DensePredictor", backbone=config, neck=dict(type="DPTFusion", channels=8), head=head)
    )
    model.train()
    data = model.data_preprocessor(tiny.batch((61, 83)), True)
    losses = model(**data, mode="loss")
    sum(losses.values()).backward()
    assert list(losses) == ["loss_silog"]
    assert not [name for name, p in model.named_parameters() if p.grad is None]

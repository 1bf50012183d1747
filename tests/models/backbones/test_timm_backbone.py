"""Models of timm give, through TimmBackbone, the numbers that they give by themselves."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope

from densevit.converters import load_weights
from densevit.errors import CheckpointError, ConfigError
from densevit.registry import MODELS

timm = pytest.importorskip("timm")

SMALL = [
    ("test_convnext", {}, {}),
    ("test_efficientnet", {}, {}),
    ("test_vit", {}, {}),
    ("eva02_tiny_patch14_224", dict(depth=3), {}),
    ("vit_small_patch16_dinov3", dict(depth=2, embed_dim=96, num_heads=3), {}),
    ("swin_tiny_patch4_window7_224", dict(embed_dim=24, depths=(2, 1, 2, 2), num_heads=(1, 2, 2, 4)), {}),
    ("levit_128s", {}, dict(img_size=256)),
    ("cait_xxs24_224", dict(depth=3, embed_dim=48, num_heads=3), dict(img_size=(208, 256))),
    ("hiera_tiny_224", dict(stages=(1, 1, 2, 1), embed_dim=24), dict(img_size=(160, 224))),
]
"""name, arguments of timm's constructor, arguments of TimmBackbone."""
WIDE = [
    *((name, {}, {}) for name in (
        "coatnet_nano_rw_224", "convmixer_768_32", "convnextv2_atto", "davit_tiny", "deit3_small_patch16_224",
        "densenet121", "edgenext_xx_small", "efficientvit_b0", "fastvit_t8", "focalnet_tiny_srf", "ghostnet_100",
        "inception_next_atto", "mambaout_femto", "mobilenetv3_small_050", "mobilenetv4_conv_small", "mobilevit_xxs",
        "mobilevitv2_050", "mvitv2_tiny", "nextvit_small", "poolformer_s12", "pvt_v2_b0", "regnetx_002", "repvit_m0_9",
        "resnet18", "starnet_s1", "swiftformer_xs", "swinv2_tiny_window8_256", "tiny_vit_5m_224",
        "xcit_nano_12_p16_224", "gcvit_xxtiny", "maxvit_rmlp_pico_rw_256",
    )),
    *((name, {}, dict(img_size=size)) for name, size in (
        ("beit_base_patch16_224", (160, 224)), ("convit_tiny", 224), ("efficientformer_l1", 224),
        ("efficientformerv2_s0", 256), ("visformer_tiny", 224),
    )),
]  # fmt: skip


def both(name: str, given: dict, options: dict) -> tuple:
    """timm's model with random weights, and TimmBackbone with those weights, loaded as from a file of timm's."""
    torch.manual_seed(0)
    args = dict(given)
    if "img_size" in options:
        args["img_size"] = options["img_size"]
    theirs = timm.create_model(name, **args)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    ours = MODELS.build(dict(type="TimmBackbone", name=name, args=given, **options)).eval()
    return theirs.eval(), ours, load_weights(ours, theirs.state_dict())


def hold_against_timm(name: str, given: dict, options: dict) -> None:
    """At an odd size: padded by hand, timm's own maps are ours before the cut; and whatever is trained is used."""
    theirs, ours, report = both(name, given, options)
    assert report.scheme == "timm"
    assert report.complete
    assert not report.resized
    image = torch.randn(2, 3, 151, 203)
    sides = ours.image if ours.fixed else [-(-n // ours.divisor) * ours.divisor for n in (151, 203)]
    padded = F.pad(image, (0, sides[1] - 203, 0, sides[0] - 151))
    reference = theirs
    if not ours.fixed:  # the options that open it for other sizes than its own change no parameter
        reference = timm.create_model(name, **given, **timm_options(ours)).eval()
        reference.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        every = reference.forward_intermediates(padded, intermediates_only=True)
        got = ours(image)
    assert len(got) == len(ours.out_indices)
    for i, x, channels, stride in zip(ours.out_indices, got, ours.out_channels, ours.out_strides, strict=True):
        height, width = -(-151 // stride), -(-203 // stride)
        assert x.shape == (2, channels, height, width)
        want = every[i][:, :, :height, :width]
        assert (x - want).abs().max() <= 1e-5 * want.abs().max()
    sum(x.square().mean() for x in ours.train()(image)).backward()
    assert [n for n, p in ours.named_parameters() if p.requires_grad and p.grad is None] == []


def timm_options(ours) -> dict:
    """What timm itself needs to be told for images of another size."""
    kind = type(ours.model).__name__
    if kind.startswith("SwinTransformer"):
        return dict(strict_img_size=False, always_partition=True)
    return dict(dynamic_img_size=True) if kind in ("VisionTransformer", "Eva") else {}


@pytest.mark.parametrize(("name", "given", "options"), SMALL, ids=[case[0] for case in SMALL])
def test_maps_equal_timms_own_at_an_odd_size(name, given, options):
    hold_against_timm(name, given, options)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "given", "options"), WIDE, ids=[case[0] for case in WIDE])
def test_maps_of_many_families_equal_timms_own(name, given, options):
    hold_against_timm(name, given, options)


def test_the_final_norm_may_stand_on_every_map():
    normed = MODELS.build(dict(type="TimmBackbone", name="test_vit", out_indices=(1, 3), norm=True)).eval()
    with torch.no_grad():
        maps = normed(torch.randn(1, 3, 64, 64))
    for x in maps:
        assert x.mean(1).abs().max() < 1e-5
        assert (x.std(1, correction=0) - 1).abs().max() < 1e-2
    assert "model.norm.weight" not in MODELS.build(dict(type="TimmBackbone", name="test_vit")).state_dict()


@pytest.mark.parametrize(
    ("name", "given", "before", "after", "table"),
    [
        ("cait_xxs24_224", dict(depth=2, embed_dim=48, num_heads=3), (64, 64), (96, 64), "pos_embed"),
        ("levit_128s", {}, 224, 256, "stages.0.blocks.0.attn.attention_biases"),
        ("hiera_tiny_224", dict(stages=(1, 1, 2, 1), embed_dim=24), (224, 224), (160, 224), "pos_embed"),
        ("test_vit", {}, (160, 160), (96, 128), "pos_embed"),
    ],
)
def test_tables_of_a_file_made_for_another_size_are_resized_and_listed(name, given, before, after, table):
    file = timm.create_model(name, **given, img_size=before)
    with torch.no_grad():  # a table that is the same everywhere stays so, whatever its size
        for key, value in file.named_parameters():
            if key.endswith(table.rsplit(".", 1)[-1]):
                value.fill_(0.5)
    ours = MODELS.build(dict(type="TimmBackbone", name=name, args=given, img_size=after))
    report = load_weights(ours, file.state_dict())
    assert f"model.{table}" in report.resized
    resized = ours.state_dict()[f"model.{table}"]
    assert tuple(resized.shape) == report.resized[f"model.{table}"][1]
    torch.testing.assert_close(resized, torch.full_like(resized, 0.5))


def test_weights_come_from_a_file_by_init_cfg_and_another_models_are_refused(tmp_path):
    theirs = timm.create_model("test_convnext")
    torch.save(theirs.state_dict(), tmp_path / "convnext.pth")
    init = dict(type="Pretrained", checkpoint=str(tmp_path / "convnext.pth"))
    with DefaultScope.overwrite_default_scope("densevit"):  # as every run has it
        ours = MODELS.build(dict(type="TimmBackbone", name="test_convnext", init_cfg=init))
        ours.init_weights()
    assert torch.equal(ours.model.state_dict()["stem.0.weight"], theirs.state_dict()["stem.0.weight"])
    with pytest.raises(CheckpointError):
        load_weights(MODELS.build(dict(type="TimmBackbone", name="test_convnext2")), theirs.state_dict())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(name="convnxt_tiny"), "no model 'convnxt_tiny' .nearest: 'convnext_tiny'"),
        (dict(name="hf_hub:timm/resnet18"), "no model"),
        (dict(name="test_convnext", out_indices=(0, 4)), "maps 0 to 3"),
        (dict(name="test_convnext", args=dict(depth=3)), "cannot build test_convnext"),
        (dict(name="crossvit_9_240"), "whole steps"),
        (dict(name="pit_ti_224"), "whole steps"),
    ],
)
def test_what_timm_does_not_have_is_refused_by_name(options, said):
    with pytest.raises(ConfigError, match=said):
        MODELS.build(dict(type="TimmBackbone", **options))


def test_a_model_of_one_size_says_so_when_an_image_is_larger():
    backbone = MODELS.build(dict(type="TimmBackbone", name="levit_128s", img_size=64))
    with pytest.raises(ConfigError, match=r"at most, and here is one of 64 x 96: give TimmBackbone img_size"):
        backbone(torch.randn(1, 3, 64, 96))

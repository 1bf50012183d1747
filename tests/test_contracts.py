"""One set of promises for everything registered (docs/architecture.md, the three sockets)."""

import math

import pytest
import tiny
import torch

import densevit.models  # noqa: F401
from densevit.registry import MODELS


def registered(folder: str) -> set[str]:
    return {
        name for name, part in MODELS.module_dict.items() if part.__module__.startswith(f"densevit.models.{folder}.")
    }


def cases(table: dict) -> list:
    return [
        pytest.param(dict(type=name, **args), id=f"{name}-{i}") for name in table for i, args in enumerate(table[name])
    ]


def gradients_reach_everything(module: torch.nn.Module) -> None:
    missing = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, missing


@pytest.mark.parametrize(
    ("folder", "table"), [("backbones", tiny.BACKBONES), ("necks", tiny.NECKS), ("heads", tiny.HEADS)]
)
def test_everything_registered_has_a_tiny_size(folder, table):
    assert registered(folder) == set(table)


@pytest.mark.parametrize("size", [(64, 96), (97, 131), (33, 40), (1, 5)])
@pytest.mark.parametrize("config", cases(tiny.BACKBONES))
def test_backbone_gives_maps_of_the_published_channels_and_strides_at_any_size(config, size):
    backbone = MODELS.build(config).eval()
    with torch.no_grad():
        maps = backbone(torch.rand(2, 3, *size))
    assert len(maps) == len(backbone.out_channels) == len(backbone.out_strides)
    for x, channels, stride in zip(maps, backbone.out_channels, backbone.out_strides, strict=True):
        assert x.shape == (2, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        assert x.isfinite().all()


@pytest.mark.parametrize("config", cases(tiny.BACKBONES))
def test_backbone_trains_the_same_with_and_without_activation_checkpointing(config):
    torch.manual_seed(0)
    plain = MODELS.build(config).train()
    frugal = MODELS.build(dict(config, with_checkpointing=True)).train()
    frugal.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 64, 64)
    for backbone in (plain, frugal):
        sum(x.square().mean() for x in backbone(images)).backward()
        gradients_reach_everything(backbone)
    for (name, p), q in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


@pytest.mark.parametrize("config", cases(tiny.BACKBONES))
def test_backbone_takes_images_one_by_one_or_together_and_its_stages_may_be_chosen(config):
    backbone = MODELS.build(config).eval()
    chosen = MODELS.build(dict(config, out_indices=(1, 3))).eval()
    chosen.load_state_dict({name: backbone.state_dict()[name] for name in chosen.state_dict()})
    assert chosen.out_strides == (backbone.out_strides[1], backbone.out_strides[3])
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        together, apart, some = backbone(images), [backbone(x[None]) for x in images], chosen(images)
    for level, x in enumerate(together):
        torch.testing.assert_close(x, torch.cat([maps[level] for maps in apart]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(some[1], together[3])


@pytest.mark.parametrize("config", cases(tiny.BACKBONES))
def test_backbone_runs_in_bfloat16_autocast(config):
    backbone = MODELS.build(config).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        exact = backbone(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = backbone(images)
    for x, y in zip(exact, rough, strict=True):
        assert (x - y.float()).abs().max() < 0.1 * x.abs().max()


@pytest.mark.parametrize("size", [(64, 96), (97, 131), (5, 9)])
@pytest.mark.parametrize("config", cases(tiny.NECKS))
def test_neck_gives_what_it_publishes(config, size):
    config = dict(in_channels=(8, 16, 24, 32), in_strides=(4, 8, 16, 32)) | config
    neck = MODELS.build(config)
    maps = [
        torch.rand(1, c, math.ceil(size[0] / s), math.ceil(size[1] / s), requires_grad=True)
        for c, s in zip(config["in_channels"], config["in_strides"], strict=True)
    ]
    outs = neck(maps)
    # all that a neck knows of the image is the finest map: an enlarged one covers that map's border whole
    seen = [side * config["in_strides"][0] for side in maps[0].shape[2:]]
    for x, channels, stride in zip(outs, neck.out_channels, neck.out_strides, strict=True):
        assert x.shape == (1, channels, math.ceil(seen[0] / stride), math.ceil(seen[1] / stride))
    sum(x.mean() for x in outs).backward()
    gradients_reach_everything(neck)


def head_and_features(config: dict, images: int, scale: float = 1.0, **image) -> tuple:
    """A head, and maps of images of 64x96 at the strides that it is built on."""
    config = dict(in_channels=tiny.HEAD_CHANNELS, in_strides=tiny.FEATURE_STRIDES) | config
    features = [torch.randn(images, 8, 64 // s, 96 // s, **image) * scale for s in config["in_strides"]]
    return MODELS.build(config), features


@pytest.mark.parametrize("boxes", [((4, 4, 40, 50), (30, 20, 90, 60)), ()], ids=["objects", "empty"])
@pytest.mark.parametrize("config", cases(tiny.HEADS))
def test_head_loses_finitely_and_touches_every_parameter(config, boxes):
    head, features = head_and_features(config, 2, requires_grad=True)
    samples = [tiny.sample(boxes=boxes, labels=(0, 2)[: len(boxes)]) for _ in range(2)]
    losses = head.loss(features, samples)
    assert losses
    assert all(key.startswith("loss_") for key in losses)
    total = sum(sum(v) if isinstance(v, (list, tuple)) else v for v in losses.values())
    assert total.isfinite()
    total.backward()
    gradients_reach_everything(head)
    assert all(p.grad.isfinite().all() for p in head.parameters())


def predictions(config: dict, sample) -> dict:
    """What a head with random weights predicts for a sample on drawn features."""
    torch.manual_seed(0)
    head, features = head_and_features(config, 1, 50.0)
    with torch.no_grad():
        return head.eval().predict(features, [sample])[0]


@pytest.mark.parametrize("config", cases(tiny.HEADS))
def test_head_predicts_in_the_original_frame(config):
    small, large = tiny.sample(), tiny.sample()
    large.set_metainfo(dict(ori_shape=(128, 288), scale_factor=(1 / 3, 0.5)))
    first, second = predictions(config, small), predictions(config, large)
    assert first.keys() == second.keys()
    for name, found in first.items():
        assert name.startswith("pred_")
        if name == "pred_instances":
            assert len(found) > 0
            assert len(found) == len(second[name])
            torch.testing.assert_close(found.bboxes * torch.tensor([3.0, 2.0, 3.0, 2.0]), second[name].bboxes)
            assert (found.scores.diff() <= 0).all()
        else:
            assert found.shape == (64, 96)
            assert second[name].shape == (128, 288)
            # the value in the middle of an original pixel that the larger image has threefold and twofold
            apart = (second[name][1::2, 1::3].float() - found.float()).abs()
            assert (apart < 0.25 * found.float().abs().max().clamp(min=1)).float().mean() > 0.8


@pytest.mark.parametrize("config", cases(tiny.HEADS))
def test_head_cuts_the_padding_off(config):
    cut = tiny.sample()
    cut.set_metainfo(dict(img_shape=(50, 70), ori_shape=(50, 70)))
    for name, found in predictions(config, cut).items():
        if name == "pred_instances":
            assert (found.bboxes <= torch.tensor([70.0, 50.0, 70.0, 50.0])).all()
        else:
            assert torch.equal(found, predictions(config, tiny.sample())[name][:50, :70])

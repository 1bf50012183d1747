"""Heads of depth: what their numbers are, what the samples say of them, and whole models on images of any size."""

from itertools import pairwise

import pytest
import tiny
import torch
import torch.nn.functional as F

from densevit.errors import ConfigError
from densevit.metrics import DepthMetric
from densevit.models.heads.dpt import DPTHead
from densevit.models.heads.dpt_depth import DPTDepthHead
from densevit.models.heads.gradual_depth import GradualDepthHead
from densevit.registry import MODELS

PLAIN = dict(
    type="ViT",
    arch=dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2),
    patch_size=14,
    img_size=56,
    out_indices=(0, 1, 2, 3),
    tokens=dict(append_cls=True),
    final_norm="all",
)
NECK = [
    dict(type="DPTReassemble", channels=(4, 8, 16, 16), readout="project"),
    dict(type="DPTFusion", channels=8, norm="BN", conv_bias=True),
]
HEADS = {
    "relative": dict(type="DPTDepthHead", channels=8),
    "sigmoid": dict(type="DPTDepthHead", channels=8, kind="sigmoid", max_depth=20.0),
    "bins": dict(type="DPTDepthHead", channels=8, kind="bins", max_depth=80.0, min_depth=1e-3),
    "inverse": dict(type="DPTDepthHead", channels=8, kind="inverse", inverse=(0.01, 0.1)),
    "classes": dict(type="DPTHead", num_classes=3),
}


def whole(name: str, **changes):
    torch.manual_seed(0)
    config = dict(type="DensePredictor", backbone=PLAIN, neck=NECK, head=HEADS[name])
    return MODELS.build(dict(config, data_preprocessor=dict(type="Preprocessor", size_divisor=1), **changes))


@pytest.mark.parametrize("name", HEADS)
def test_images_of_any_size_are_predicted_in_their_own_size_alone_and_together(name):
    model = whole(name).eval()
    for size in ((56, 84), (61, 83), (33, 40)):
        data = model.data_preprocessor(tiny.batch(size, images=2))
        with torch.no_grad():
            together = model(data["inputs"])
            apart = torch.cat([model(image[None]) for image in data["inputs"]])
            samples = model(**data, mode="predict")
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
        key = "pred_semantic" if name == "classes" else "pred_depth"
        assert all(sample.get(key).shape == size for sample in samples)
        if name == "classes":
            assert "depth_kind" not in samples[0]
            continue
        assert together.shape[2:] == tuple(-(-side // 14) * 14 for side in size)  # each pixel of the padded image
        want = F.interpolate(together, size, mode="bilinear")[:, 0]
        torch.testing.assert_close(torch.stack([sample.pred_depth for sample in samples]), want)
        assert {sample.depth_kind for sample in samples} == {"relative" if name == "relative" else "metric"}


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_of_a_whole_model_learns(name):
    model = whole(name).train()
    losses = model(**model.data_preprocessor(tiny.batch((61, 83)), True), mode="loss")
    assert list(losses) == [{"classes": "loss_ce", "relative": "loss_ssi"}.get(name, "loss_silog")]
    sum(losses.values()).backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # nothing sees the last bias before a normalization; nor has the first block's key one
    assert not [key for key in still if not key.endswith(".bias")], still


def measured(**settings):
    """A head that measures its input: what comes in is what its last convolution gives."""
    channels = settings.get("bins", 1)
    head = GradualDepthHead((channels,), (16,), channels=(channels,), **settings)
    head.decode = lambda features: features[0]
    with torch.no_grad():
        head.depth_pred.weight.copy_(torch.eye(channels)[..., None, None])
        head.depth_pred.bias.zero_()
    return head


def test_numbers_of_each_kind_are_what_their_formulas_say():
    x = torch.tensor([-50.0, -1.0, 0.0, 2.0, 50.0]).view(1, 1, 1, 5)
    sigmoid = measured(kind="sigmoid", max_depth=10.0, min_depth=2.0)([x])
    torch.testing.assert_close(sigmoid[0, 0, 0], 2 + 8 / (1 + torch.exp(-x[0, 0, 0])))
    assert measured(kind="relative")([x]).flatten().tolist() == [0, 0, 0, 2, 50]
    assert torch.equal(measured(kind="relative", non_negative=False)([x]), x)
    inverse = measured(kind="inverse", inverse=(0.5, 0.25))([x])
    torch.testing.assert_close(inverse.flatten(), 1 / (0.5 * x.flatten().clamp(min=0) + 0.25))
    blind = measured(kind="inverse", inverse=(0.5, 0.0))([x])
    assert blind.flatten()[:3].tolist() == pytest.approx([1e8] * 3)  # finite where nothing is seen


@pytest.mark.parametrize("losses", ["SILogLoss", "DepthL1Loss", "ScaleShiftInvariantLoss"])
@pytest.mark.parametrize("kind", ["sigmoid", "bins"])
def test_ground_truth_beyond_what_the_head_can_predict_is_a_hole(kind, losses):
    torch.manual_seed(0)
    head = measured(kind=kind, bins=4 if kind == "bins" else 1, max_depth=80.0, min_depth=0.5, losses=dict(type=losses))
    ground_truth = torch.rand(1, 8, 8) * 79.5 + 0.5
    ground_truth[0, 0, :2] = torch.tensor([0.5, 80.0])  # the ends themselves can be predicted
    beyond, holes = ground_truth.clone(), ground_truth.clone()
    beyond[0, 1:4], holes[0, 1:4] = torch.tensor([655.35, 80.1, 0.4])[:, None], 0
    found = []
    for some in (holes, beyond, ground_truth):
        maps = (torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 79 + 0.5).requires_grad_()
        (value,) = head.map_loss(maps, some).values()
        found.append((value.detach(), *torch.autograd.grad(value, maps)))
    assert all(map(torch.equal, found[0], found[1]))
    assert found[2][1][0, 0, 0, :2].abs().min() > 0 and not torch.equal(found[0][0], found[2][0])


def test_unbounded_kinds_take_every_depth_and_say_so():
    for name in HEADS:
        model = whole(name).eval()
        data = model.data_preprocessor(tiny.batch((56, 56), images=1))
        with torch.no_grad():
            (found,) = model(**data, mode="predict")
        assert found.get("depth_range") == {"sigmoid": (0.0, 20.0), "bins": (1e-3, 80.0)}.get(name)


def test_the_sky_of_a_validation_moves_neither_its_loss_nor_its_score():
    model, found = whole("sigmoid").eval(), []
    for sky in (0.0, 30.0, 655.35):
        batch = tiny.batch((56, 56), images=1)
        batch["data_samples"][0].gt_depth[:20] = sky
        metric = DepthMetric(max_depth=1000.0)
        with torch.no_grad():
            *samples, losses = model.val_step(batch)
        metric.process(None, [sample.to_dict() for sample in samples])
        found.append((float(losses.loss["loss"]), metric.evaluate(1)))
    assert found[0] == found[1] == found[2]


def test_bins_are_each_images_own_and_depth_is_the_mean_of_their_centers():
    torch.manual_seed(0)
    head = measured(kind="bins", bins=4, max_depth=9.0, min_depth=1.0)
    x = 2 * torch.randn(3, 4, 2, 5)
    found, centers = head([x]), head.bin_centers(x)
    for image in range(3):
        shares = head.widths(x[image].mean((1, 2))).softmax(0).tolist()
        edges = [1.0]
        for share in shares:
            edges.append(edges[-1] + 8 * share)
        assert edges[-1] == pytest.approx(9.0)
        middles = [(a + b) / 2 for a, b in pairwise(edges)]
        assert centers[image].tolist() == pytest.approx(middles)
        for row in range(2):
            for column in range(5):
                weights = x[image, :, row, column].softmax(0).tolist()
                mean = sum(w * c for w, c in zip(weights, middles, strict=True))
                assert found[image, 0, row, column].item() == pytest.approx(mean, rel=1e-5)
    assert not torch.allclose(centers[0], centers[1])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(kind="relativ"), "nearest: 'relative'"),
        (dict(kind="sigmoid"), "max_depth in meters"),
        (dict(kind="bins", max_depth=1.0, min_depth=2.0), "min_depth=2.0 to max_depth=1.0"),
        (dict(kind="inverse"), "belong together"),
        (dict(kind="relative", inverse=(1, 0)), "belong together"),
    ],
)
def test_what_a_depth_head_does_not_know_is_reported(settings, said):
    with pytest.raises(ConfigError, match=said):
        DPTDepthHead((8,), (2,), **settings)


@pytest.mark.parametrize("head", [DPTDepthHead, DPTHead, GradualDepthHead])
def test_heads_on_one_map_refuse_several(head):
    settings = dict(num_classes=3) if head is DPTHead else dict(max_depth=10.0)
    with pytest.raises(ConfigError, match="looks at one map"):
        head((8, 8), (4, 8), **settings)


def test_four_stages_bring_patches_of_16_to_single_pixels():
    head = GradualDepthHead((8,), (16,), max_depth=10.0, channels=(8, 8, 4, 4)).eval()
    assert head.stride == 1
    found = head([torch.randn(1, 8, 3, 5)])
    assert found.shape == (1, 1, 48, 80)
    assert 0 < found.min() < found.max() < 10


def test_losses_are_added_by_name_and_weighed():
    losses = [dict(type="DepthL1Loss"), dict(type="DepthL1Loss", loss_weight=2.0), dict(type="SILogLoss")]
    head = DPTDepthHead((8,), (2,), kind="sigmoid", max_depth=10.0, losses=losses, loss_weight=0.5)
    maps, ground_truth = torch.full((1, 1, 2, 2), 3.0), torch.tensor([[[1.0, 0.0], [5.0, 4.0]]])
    found = head.map_loss(maps, ground_truth)
    assert found["loss_l1"].item() == pytest.approx(0.5 * 3 * (2 + 2 + 1) / 3)
    assert set(found) == {"loss_l1", "loss_silog"}


def test_views_of_a_relative_model_say_that_they_are_relative():
    model = whole("relative").eval()
    data = tiny.batch((56, 84), images=1)
    image, sample = data["inputs"][0], data["data_samples"][0]
    plain, flipped = sample.new(), sample.new()
    flipped.set_metainfo(dict(flip=True))
    with torch.no_grad():
        views = dict(inputs=[[image], [image], [image.flip(-1)]], data_samples=[[sample], [plain], [flipped]])
        (found,) = model.test_step(views)
    assert found.depth_kind == "relative"
    assert found.pred_depth.shape == (56, 84)

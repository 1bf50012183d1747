"""ViT-Adapter: published sizes, where queries stand on maps of another grid, what reaches and leaves the ViT."""

import pytest
import torch
from tiny import BACKBONES

from densevit.errors import ConfigError
from densevit.models.backbones.vit_adapter import ViTAdapter
from densevit.models.layers.deformable_attention import DeformableAttention, SpatialShapes, sampling_locations
from densevit.registry import MODELS

VIT = dict(
    type="ViT",
    arch=dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2),
    patch_size=16,
    img_size=64,
    tokens=dict(cls=False),
)
SMALL = dict(conv_inplane=4, deform_num_heads=2, n_points=2)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter away from ones and zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


PUBLISHED = [
    ("tiny", 6, 1.0, 28, 36),
    ("small", 6, 1.0, 48, 58),
    ("base", 12, 0.5, 120, 134),
    ("large", 16, 0.5, 348, 364),
]


@pytest.mark.parametrize(("arch", "heads", "ratio", "detector", "segmentor"), PUBLISHED)
def test_parameters_of_the_published_models(arch, heads, ratio, detector, segmentor):
    """Mask R-CNN with factors of the branches, UPerNet without; L's table is made for images of 384 pixels."""
    vit = dict(type="ViT", arch=arch, tokens=dict(cls=False), img_size=384 if arch == "large" else 224)
    backbone = dict(type="ViTAdapter", vit=vit, deform_num_heads=heads, deform_ratio=ratio)
    windows = dict(vit, block=dict(layer_scale=1.0), windows=dict(size=14, blocks=(0, 1, 3, 4), padding="keys"))
    head = dict(type="MaskRCNNHead", num_classes=80)
    first = dict(type="DensePredictor", backbone=dict(backbone, vit=windows), neck=dict(type="FPN"), head=head)
    classes = dict(type="FCNHead", num_classes=150)
    second = dict(
        type="DensePredictor",
        backbone=dict(backbone, add_vit_feature="each"),
        neck=dict(type="UPerNet"),
        head=dict(classes, num_convs=0),
        auxiliary=[dict(classes, in_index=2, num_convs=1, channels=256)],
    )
    with torch.device("meta"):
        counts = [sum(p.numel() for p in MODELS.build(config).parameters()) for config in (first, second)]
    assert [round(count / 1e6) for count in counts] == [detector, segmentor]


def test_queries_stand_at_their_pixels_on_maps_of_another_grid():
    """A patch of 14 pixels on a map of stride 8, and the other way round, in pixels of the image."""
    patches, prior = (
        [SpatialShapes((3, 5), 14)],
        [SpatialShapes((4, 8), 8), SpatialShapes((2, 4), 16), SpatialShapes((1, 2), 32)],
    )
    there = sampling_locations(patches, prior, torch.device("cpu"))
    assert there.sizes == ((4, 8), (2, 4), (1, 2))
    assert there.sides.flatten(1).tolist() == [[8, 4], [4, 2], [2, 1]]
    for row in range(3):
        for column in range(5):
            pixels = there.centers[row * 5 + column] * torch.tensor([64.0, 32.0])
            assert pixels.tolist() == pytest.approx([14 * column + 7, 14 * row + 7])
    back = sampling_locations(prior, patches, torch.device("cpu")).centers * torch.tensor([70.0, 42.0])
    centers = [(x + s / 2, y + s / 2) for s in (8, 16, 32) for y in range(0, 32, s) for x in range(0, 64, s)]
    torch.testing.assert_close(back, torch.tensor(centers))


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
def test_the_vits_map_is_resized_in_its_place(patch):
    """What rises evenly over the image has the same value at each pixel after it is resized."""
    adapter = ViTAdapter(dict(VIT, patch_size=patch), **SMALL)
    size = -(-448 // patch)
    x = ((torch.arange(size) + 0.5) * patch).expand(1, 1, size, size)
    for stride in (4, 8, 16, 32):
        resized = adapter.at_stride(x, stride)[0, 0, 0, : 448 // stride]
        want = (torch.arange(448 // stride) + 0.5) * stride
        inner = (want > patch / 2) & (want < x.max())  # beyond the outer centers the border is repeated
        torch.testing.assert_close(resized[inner], want[inner])
        assert inner.sum() > 10


def test_heads_first_look_around_in_a_ring_one_pixel_further_with_each_point():
    attn = DeformableAttention(8, num_heads=4, levels=3, points=2)
    offsets = attn.sampling_offsets(torch.randn(1, 1, 8)).view(4, 3, 2, 2)
    ring = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    for level in range(3):
        for point in range(2):
            torch.testing.assert_close(offsets[:, level, point], ring * (point + 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [dict(), dict(patch_size=14), dict(tokens=dict(cls=True, registers=2))])
def test_injectors_of_factor_zero_leave_the_vit_as_it_is(options):
    adapter = drawn(ViTAdapter(dict(VIT, **options), **SMALL))
    for layer in adapter.interactions:
        torch.nn.init.zeros_(layer.injector.gamma)
    alone = MODELS.build(dict(VIT, **options, final_norm=None)).eval()
    alone.load_state_dict(adapter.vit.state_dict())
    images = torch.randn(1, 3, 64, 96)
    tokens, grid = adapter.vit.embed(images)
    with torch.no_grad():
        _, added = adapter.interact(tokens, torch.randn(1, 8 * 12 + 4 * 6 + 2 * 3, 16), grid, ((8, 12), (4, 6), (2, 3)))
        want = alone(images)[0].flatten(2).transpose(1, 2)
    assert len(added) == 4
    for patches in added:
        torch.testing.assert_close(patches, want)


def test_each_interactions_patches_go_to_one_map_or_the_last_to_all():
    each, last = (drawn(ViTAdapter(VIT, **SMALL, add_vit_feature=how)) for how in ("each", "last"))
    last.load_state_dict(each.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first, second = each(images), last(images)
    assert [torch.allclose(x, y) for x, y in zip(first, second, strict=True)] == [False, False, False, True]


def test_maps_are_cut_to_the_image_and_its_completion_is_of_zeros():
    adapter = drawn(ViTAdapter(VIT, **SMALL))
    images = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        small = adapter(images)
        whole = adapter(torch.nn.functional.pad(images, (0, 26, 0, 14)))
    for x, y in zip(small, whole, strict=True):
        torch.testing.assert_close(x, y[:, :, : x.shape[2], : x.shape[3]])
    assert [tuple(x.shape[2:]) for x in small] == [(13, 18), (7, 9), (4, 5), (2, 3)]


def test_a_frozen_vit_passes_gradients_on_to_the_injectors():
    adapter = ViTAdapter(VIT, **SMALL).train()
    adapter.vit.requires_grad_(False)
    sum(x.square().mean() for x in adapter(torch.randn(1, 3, 64, 64))).backward()
    assert all(p.grad is None for p in adapter.vit.parameters())
    rest = [(name, p) for name, p in adapter.named_parameters() if not name.startswith("vit.")]
    assert [name for name, p in rest if p.grad is None] == []
    # at the start the factors are zero, and learn of what they would let through
    assert all(layer.injector.gamma.grad.abs().sum() > 0 for layer in adapter.interactions)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(vit=dict(VIT, final_norm="all")), r"leave vit\.final_norm out"),
        (dict(vit=dict(VIT, tokens=dict(cls=True, append_cls=True))), r"leave vit\.tokens\.append_cls out"),
        (dict(vit=dict(type="PVT", arch="tiny")), "vit is a PVT"),
        (dict(vit=dict(VIT, arch=dict(embed_dim=16, depth=6, num_heads=2, mlp_ratio=2))), "6 blocks"),
        (dict(interaction_indexes=((0, 1), (2, 4))), r"hold \(2, 4\)"),
        (dict(interaction_indexes=()), "at least"),
        (dict(interaction_indexes=((0, 1), (2, 3)), add_vit_feature="each"), "there are 2 interactions"),
        (dict(add_vit_feature="lst"), "nearest: 'last'"),
        (dict(out_indices=(0, 4)), "maps 0 to 3"),
        (dict(deform_num_heads=3), "16 channels by 1.0 do not divide among 3 heads"),
    ],
)
def test_options_that_do_not_fit_are_reported(options, said):
    with pytest.raises(ConfigError, match=said):
        ViTAdapter(**{"vit": VIT, **SMALL, **options})


@pytest.mark.slow
@pytest.mark.parametrize("options", BACKBONES["ViTAdapter"])
def test_torch_compile_takes_it_whole_also_at_a_second_size(options):
    torch._dynamo.reset()
    adapter = drawn(ViTAdapter(**options))
    compiled = torch.compile(adapter, fullgraph=True, dynamic=False, backend="aot_eager")
    for size in ((64, 96), (50, 33)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            for x, y in zip(compiled(images), adapter(images), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)

"""Whole segmentation models of small size: what must hold for each way from maps to classes."""

import pytest
import tiny
import torch
import torch.nn.functional as F

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.registry import MODELS

PYRAMID = dict(type="PVTv2", **tiny.BACKBONES["PVTv2"][0])
PLAIN = dict(
    type="ViT",
    arch=dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2),
    patch_size=16,
    img_size=64,
    out_indices=(0, 1, 2, 3),
)
LINEAR = dict(type="FCNHead", num_convs=0)
MODELS_OF = {
    "Semantic FPN": dict(
        backbone=PYRAMID, neck=dict(type="FPN", out_channels=8, num_levels=4), head=dict(type="SemanticFPNHead")
    ),
    "UPerNet": dict(
        backbone=PYRAMID,
        neck=dict(type="UPerNet", channels=8),
        head=LINEAR,
        auxiliary=[dict(type="FCNHead", in_index=2, channels=8)],
    ),
    "UPerNet on a plain ViT": dict(
        backbone=PLAIN,
        neck=[dict(type="MultiLevelNeck"), dict(type="UPerNet", channels=8)],
        head=LINEAR,
        auxiliary=[dict(type="FCNHead", in_index=3, neck_index=1, channels=8)],
    ),
    "SETR naive": dict(
        backbone=PLAIN,
        head=dict(type="SETRHead", decoder="naive", in_index=3, channels=8),
        auxiliary=[dict(type="SETRHead", decoder="naive", num_convs=2, in_index=i, channels=8) for i in range(3)],
    ),
    "SETR PUP": dict(backbone=PLAIN, head=dict(type="SETRHead", decoder="pup", in_index=3, channels=8)),
    "SETR MLA": dict(
        backbone=PLAIN,
        neck=dict(type="MLANeck", channels=8),
        head=dict(type="SETRHead", decoder="mla", channels=8),
        auxiliary=[dict(LINEAR, in_index=i, neck_index=1) for i in range(4)],
    ),
    "Segmenter linear": dict(backbone=PLAIN, head=dict(LINEAR, in_index=3, dropout=0.0)),
    "Segmenter mask": dict(backbone=PLAIN, head=dict(type="SegmenterHead", in_index=3, num_heads=2)),
}


def build(name: str, **changes):
    torch.manual_seed(0)
    model = MODELS.build(dict(type="DensePredictor", classes=("a", "b", "c"), **MODELS_OF[name], **changes))
    for key, value in model.named_buffers():
        if key.endswith("running_mean"):
            value.normal_()
    return model


@pytest.mark.parametrize("name", MODELS_OF)
def test_images_of_any_size_are_predicted_alike_alone_and_together(name):
    model = build(name, data_preprocessor=dict(type="Preprocessor", size_divisor=1)).eval()
    for size in ((64, 96), (61, 83), (33, 40)):
        data = tiny.batch(size, images=3)
        with torch.no_grad():
            prepared = model.data_preprocessor(data)
            together = model(prepared["inputs"])
            apart = torch.cat([model(image[None]) for image in prepared["inputs"]])
            samples = model(**prepared, mode="predict")
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
        assert together.shape[:2] == (3, 3)
        # resized straight to the input's size, whatever the backbone padded inside
        want = F.interpolate(together, size, mode="bilinear").argmax(1)
        assert torch.equal(torch.stack([sample.pred_semantic for sample in samples]), want)


@pytest.mark.parametrize("name", MODELS_OF)
def test_a_batch_without_any_class_gives_no_loss_and_a_gradient_of_nothing(name):
    model = build(name).train()
    data = model.data_preprocessor(tiny.batch(boxes=(), labels=()), True)
    losses = model(**data, mode="loss")
    total = sum(losses.values())
    assert total == 0
    total.backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert (p.grad == 0).all(), key


@pytest.mark.parametrize("name", MODELS_OF)
def test_a_batch_of_one_image_trains(name):
    model = build(name).train()
    losses = model(**model.data_preprocessor(tiny.batch(images=1), True), mode="loss")
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS_OF)
def test_bfloat16_stays_near_float32(name):
    model = build(name).eval()
    data = model.data_preprocessor(tiny.batch())
    with torch.no_grad():
        exact, loss = model(data["inputs"]), model(**data, mode="loss")["loss_ce"]
        with torch.autocast("cpu", torch.bfloat16):
            rough, rough_loss = model(data["inputs"]), model(**data, mode="loss")["loss_ce"]
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()
    assert rough_loss.dtype == torch.float32
    torch.testing.assert_close(rough_loss, loss, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("name", MODELS_OF)
def test_all_compiles_in_one_graph(name):
    model = build(name).eval()
    images = model.data_preprocessor(tiny.batch())["inputs"]
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images), rtol=1e-3, atol=1e-3)


def parameters(**model) -> int:
    with torch.device("meta"):
        built = MODELS.build(dict(type="DensePredictor", classes=[str(i) for i in range(150)], **model))
    return sum(p.numel() for p in built.parameters())


# (what mmsegmentation 1.2.2 counts of its own model, the paper's table in million)
UPERNET = [("tiny", 59_941_862, 60), ("small", 81_259_766, 81), ("base", 121_279_716, 121)]
SETR = [("naive", 305_557_592), ("pup", 317_290_072), ("mla", 309_569_262)]
SEGMENTER = [("tiny", 6_713_196, 7), ("small", 26_033_580, 27), ("base", 102_496_812, 106)]


@pytest.mark.parametrize(("arch", "exactly", "published"), UPERNET)
def test_upernet_on_swin_has_the_published_size(arch, exactly, published):
    found = parameters(
        backbone=dict(type="Swin", arch=arch),
        neck=dict(type="UPerNet"),
        head=LINEAR,
        auxiliary=[dict(type="FCNHead", in_index=2)],
    )
    assert found == exactly
    assert round(found / 1e6) == published


@pytest.mark.parametrize(("decoder", "exactly"), SETR)
def test_setr_has_mmsegmentations_size(decoder, exactly):
    backbone = dict(
        type="ViT", arch="large", img_size=512, out_indices=(9, 14, 19, 23), final_norm=None, patch_bias=False
    )
    if decoder == "mla":
        rest = dict(
            neck=dict(type="MLANeck"),
            head=dict(type="SETRHead", decoder="mla"),
            auxiliary=[dict(LINEAR, in_index=i, neck_index=1) for i in range(4)],
        )
    else:
        head = dict(type="SETRHead", decoder=decoder)
        auxiliary = [dict(head, in_index=i, num_convs=2, up_scale=4) for i in range(3)]
        rest = dict(head=dict(head, in_index=3), auxiliary=auxiliary)
    assert parameters(backbone=backbone, **rest) == exactly


@pytest.mark.parametrize(("arch", "exactly", "published"), SEGMENTER)
def test_segmenter_has_mmsegmentations_size_and_nearly_the_published_one(arch, exactly, published):
    backbone = dict(type="ViT", arch=arch, img_size=512, patch_bias=False)
    found = parameters(backbone=backbone, head=dict(type="SegmenterHead"))
    assert found == exactly
    assert found / 1e6 == pytest.approx(published, rel=0.05)


def test_segmenters_logits_are_cosines_of_places_and_classes_normed_over_the_classes():
    torch.manual_seed(0)
    head = MODELS.build(dict(tiny.HEADS["SegmenterHead"][1], type="SegmenterHead", num_classes=5)).eval()
    x = torch.randn(2, 8, 3, 4)
    tokens = torch.cat([head.proj_dec(x.flatten(2).transpose(1, 2)), head.cls_emb.expand(2, -1, -1)], dim=1)
    for block in head.blocks:
        tokens = block(tokens, (3, 4))
    tokens = head.decoder_norm(tokens)
    found = head([x])
    assert found.shape == (2, 5, 3, 4)
    for location in range(12):
        cosines = F.cosine_similarity(
            (tokens[:, location] @ head.proj_patch)[:, None], tokens[:, 12:] @ head.proj_classes, dim=-1
        )
        want = F.layer_norm(cosines, (5,), eps=1e-5)
        torch.testing.assert_close(found.flatten(2)[:, :, location], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_setr_classifies_what_its_decoder_has_enlarged(decoder):
    torch.manual_seed(0)
    count = 2 if decoder == "mla" else 1
    args = dict(in_channels=(8,) * count, in_strides=(16,) * count, num_classes=5, channels=6)
    head = MODELS.build(dict(type="SETRHead", decoder=decoder, num_convs=3, up_scale=3, **args)).eval()
    features = [torch.randn(2, 8, 3, 5) for _ in range(count)]

    def up(x):
        return F.interpolate(x, scale_factor=3, mode="bilinear")

    if decoder == "mla":
        x = torch.cat([up(branch(x)) for branch, x in zip(head.branches, features, strict=True)], dim=1)
    else:
        x = F.layer_norm(features[0].movedim(1, -1), (8,), eps=1e-6).movedim(-1, 1)
        for conv in head.branches[0]:
            x = up(conv(x))
    found = head(features)
    torch.testing.assert_close(found, head.cls_pred(x), rtol=1e-4, atol=1e-6)
    assert head.stride * found.shape[2] == 16 * 3


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (dict(type="SETRHead", decoder="pub"), "decoder='pub': choose from naive, pup, mla"),
        (dict(type="SETRHead", decoder="naive"), "looks at one map, but 4 come in.*in_index=3"),
        (dict(type="SegmenterHead"), "looks at one map, but 4 come in"),
        (dict(type="SegmenterHead", in_index=0, num_heads=3), "embed_dim 16 is no multiple of num_heads 3"),
        (dict(type="FCNHead", in_index=0, norm="GN"), "norm='GN'"),
    ],
)
def test_what_a_head_cannot_do_is_named(config, said):
    with pytest.raises(ConfigError, match=said):
        MODELS.build(dict(type="DensePredictor", backbone=PLAIN, head=config, classes=("a", "b")))


def test_losses_of_a_head_are_added_under_their_names_and_weighed():
    losses = [
        dict(type="CrossEntropyLoss"),
        dict(type="DiceLoss", loss_weight=3.0),
        dict(type="CrossEntropyLoss", avg_non_ignore=False, loss_weight=0.5),
    ]
    torch.manual_seed(0)
    args = dict(in_channels=(8,), in_strides=(4,), num_classes=3, num_convs=0)
    head = MODELS.build(dict(type="FCNHead", losses=losses, loss_weight=0.4, **args))
    logits, ground_truth = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6))
    ground_truth[:, 0] = 255
    found = head.map_loss(logits, ground_truth)
    first, dice, last = (MODELS.build(loss)(logits, ground_truth) for loss in losses)
    assert list(found) == ["loss_ce", "loss_dice"]
    torch.testing.assert_close(found["loss_ce"], 0.4 * (first + last))
    torch.testing.assert_close(found["loss_dice"], 0.4 * dice)

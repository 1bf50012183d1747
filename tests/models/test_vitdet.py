"""ViTDet as a whole: the published sizes, and a small one that trains and predicts."""

import pytest
import tiny
import torch

import densevit.models  # noqa: F401
from densevit.registry import MODELS

HEAD = dict(
    type="MaskRCNNHead",
    rpn=dict(num_convs=2),
    box=dict(num_convs=4, num_fcs=1, norm="LN"),
    mask=dict(norm="LN"),
)
SMALL = dict(
    type="MaskRCNNHead",
    rpn=dict(
        feat_channels=8,
        num_convs=2,
        anchors=dict(scales=(2,)),
        train=dict(max_per_image=20),
        test=dict(max_per_image=20),
    ),
    box=dict(num_convs=4, conv_channels=8, num_fcs=1, fc_channels=16, norm="LN", test=dict(score_thr=0.0)),
    mask=dict(channels=8, norm="LN"),
)


def vitdet(head: dict, num_classes: int, **backbone) -> dict:
    return dict(
        type="DensePredictor",
        backbone=dict(type="ViT", final_norm=None, tokens=dict(cls=False), **backbone),
        neck=dict(type="SimpleFeaturePyramid"),
        head=head,
        classes=[str(i) for i in range(num_classes)],
    )


@pytest.mark.parametrize(
    ("arch", "depth", "every", "published"), [("base", 12, 3, 111), ("large", 24, 6, 331), ("huge", 32, 8, 662)]
)
def test_the_published_number_of_parameters(arch, depth, every, published):
    """Of huge 661.2 million are counted here."""
    blocks = tuple(i for i in range(depth) if i % every != every - 1)
    with torch.device("meta"):
        model = MODELS.build(vitdet(HEAD, 80, arch=f"vitdet_{arch}"))
    assert tuple(model.backbone.windows) == blocks
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(published, rel=0.0015)


@pytest.mark.parametrize("size", [(64, 96), (45, 71)])
@pytest.mark.parametrize("convolutions", [(), (1, 3)])
def test_a_small_one_trains_and_predicts(size, convolutions):
    torch.manual_seed(0)
    config = vitdet(
        SMALL,
        3,
        arch=dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2),
        img_size=64,
        rel_pos=dict(kind="decomposed", img_size=96),
        windows=dict(size=2, blocks=(0, 2), conv_blocks=convolutions),
        drop_path_rate=0.1,
    )
    config["neck"]["channels"] = 8
    config["data_preprocessor"] = dict(type="Preprocessor", square_pad=96)
    model = MODELS.build(config).train()
    data = model.data_preprocessor(tiny.batch(size), True)
    assert data["inputs"].shape[2:] == (96, 96)
    losses = model(**data, mode="loss")
    sum(sum(v) if isinstance(v, list) else v for v in losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    with torch.no_grad():
        found = model.eval().test_step(tiny.batch(size))
    assert len(found[0].pred_instances) > 0
    assert found[0].pred_instances.masks[0]["size"] == list(size)

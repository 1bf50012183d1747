"""detectron2's two-stage detectors: configurations, names and stored numbers of the second stage."""

import copy

import pytest
import torch
from parity.case import read_case

from densevit.converters import build, load_weights, translate
from densevit.converters.architectures import ARCHITECTURES
from densevit.converters.architectures.rcnn_detectron2 import from_detectron2
from densevit.converters.config_spec import ConfigReader, UnsupportedModelError, group_options
from densevit.converters.key_mapping import invert, remap
from densevit.errors import ConfigError
from densevit.registry import MODELS
from densevit.structures import DataSample, InstanceData

CASES = [
    "detectron2_vitdet_maskrcnn",
    "detectron2_vitdet_cascade",
    "detectron2_vitdet_maskrcnn_loss",
    "detectron2_vitdet_cascade_loss",
    "detectron2_mvitv2_maskrcnn",
]
SWIN = {
    "_target_": "FPN",
    "bottom_up": dict(
        _target_="detectron2.modeling.backbone.swin.SwinTransformer",
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        drop_path_rate=0.0,
        out_indices=[0, 1, 2, 3],
    ),
    "in_features": ["p0", "p1", "p2", "p3"],
    "out_channels": 32,
    "top_block": {"_target_": "detectron2.modeling.backbone.fpn.LastLevelMaxPool"},
}


def model_of(case) -> dict:
    return copy.deepcopy(case.model["model"])


def head_of(config: dict):
    """Our head of a detectron2 configuration."""
    head, width, strides = from_detectron2(ConfigReader(copy.deepcopy(config), "model"))
    return MODELS.build(
        group_options(head), default_args=dict(in_channels=(width,) * len(strides), in_strides=strides)
    ).eval()


@pytest.mark.parametrize("name", CASES)
def test_every_name_of_detectron2s_heads_has_its_place(shared, name):
    case = read_case(shared / "parity", name)
    head = head_of(model_of(case))
    prefixes = ("proposal_generator.", "roi_heads.")
    theirs = {key: torch.empty(shape) for key, shape, *_ in case.state if key.startswith(prefixes)}
    renamed = remap(theirs, ARCHITECTURES[type(head).__name__].keys["detectron2"])
    assert not renamed.unknown
    assert {k: v.shape for k, v in renamed.state.items()} == {k: v.shape for k, v in head.state_dict().items()}


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("_loss")])
def test_detectron2s_logits_become_detectron2s_boxes(shared, name, monkeypatch):
    """The second stage from the stored logits and deltas on: clamps, clips, averages, NMS."""
    case = read_case(shared / "parity", name)
    images = [value for key, value in sorted(case.inputs.items()) if key.startswith("image")]
    samples = [DataSample(metainfo=dict(img_shape=tuple(x.shape[1:]))) for x in images]
    stored = {key: torch.from_numpy(case.output(key)) for key in case.outputs if key.startswith(("proposal", "roi"))}
    proposals = stored["proposal_boxes"].split(stored["proposal_counts"].tolist())
    head = head_of(model_of(case))
    if hasattr(head, "boxes"):
        given = [(stored[f"roi_cls_logits_stage{i}"], stored[f"roi_deltas_stage{i}"][:, None]) for i in range(3)]
        monkeypatch.setattr(head, "read", lambda stage, *_: given[stage])
    else:
        given = stored["roi_cls_logits"], stored["roi_deltas"].unflatten(1, (-1, 4))
        monkeypatch.setattr(head.box, "pool", lambda *_: None)
        monkeypatch.setattr(head.box, "forward", lambda _: given)
    found = head.detect([], proposals, samples)
    assert case.error("det_counts", torch.tensor([len(f) for f in found])) == 0
    assert case.error("det_labels", torch.cat([f.labels for f in found])) == 0
    assert case.error("det_boxes", torch.cat([f.bboxes for f in found])) < 1e-5
    assert case.error("det_scores", torch.cat([f.scores for f in found])) < 1e-5


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("_loss")])
def test_as_many_anchors_count_as_in_detectron2(shared, name):
    """All images lie in a square of 640; the samplers keep everything."""
    case = read_case(shared / "parity", name)
    rpn = head_of(model_of(case)).rpn
    sizes, levels = rpn.anchors([torch.empty(1, 1, 640 // s, 640 // s) for s in (4, 8, 16, 32, 64)])
    counts = []
    for i in range(2):
        shape = tuple(case.inputs[f"image_{i}"].shape[1:])
        sample = DataSample(metainfo=dict(img_shape=shape, pad_shape=shape))
        sample.gt_instances = InstanceData(
            bboxes=case.inputs[f"gt_boxes_{i}"], labels=case.inputs[f"gt_labels_{i}"].long()
        )
        index, drawn = rpn.targets(torch.cat(levels), sizes, sample)
        counts.append([int((drawn & (index >= 0)).sum()), int((drawn & (index == -1)).sum())])
    positive, negative = torch.tensor(counts, dtype=torch.float64).mean(0)
    assert case.error("mean_per_image/rpn/num_pos_anchors", positive) == 0
    assert case.error("mean_per_image/rpn/num_neg_anchors", negative) == 0


def test_a_whole_detector_around_swin_is_built_and_takes_detectron2s_names(shared):
    config = model_of(read_case(shared / "parity", "detectron2_vitdet_maskrcnn"))
    model = build("detectron2", {"lazy_config": "swin.py", "model": {**config, "backbone": SWIN}})
    assert model.neck.out_strides == (4, 8, 16, 32, 64)
    assert model.data_preprocessor.bgr_to_rgb
    assert model.data_preprocessor.size_divisor == 32
    theirs = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    }
    for part, prefix, kind in (
        ("backbone", "backbone.bottom_up.", "Swin"),
        ("neck", "backbone.", "FPN"),
        ("head", "", "MaskRCNNHead"),
    ):
        named = remap(getattr(model, part).state_dict(), invert(ARCHITECTURES[kind].keys["detectron2"]))
        theirs |= {prefix + key: value.clone() for key, value in named.state.items()}
    wanted = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    report = load_weights(model, theirs)
    assert report.scheme == "detectron2"  # whose Swin has microsoft's names
    assert report.complete
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("location", "value", "named"),
    [
        (("roi_heads", "box_predictor", "use_sigmoid_ce"), True, "use_sigmoid_ce"),
        (("roi_heads", "box_head", "conv_norm"), "GN", "conv_norm"),
        (("roi_heads", "box_in_features"), ["p3", "p4"], "box_in_features"),
        (("proposal_generator", "box_reg_loss_type"), "giou", "box_reg_loss_type"),
        (("proposal_generator", "head", "num_anchors"), 5, "num_anchors"),
        (("roi_heads", "mask_head", "strange"), 1, "strange"),
        (("roi_heads", "_target_"), "Res5ROIHeads", "Res5ROIHeads"),
    ],
)
def test_what_densevit_does_not_have_is_named(shared, location, value, named):
    config = model_of(read_case(shared / "parity", "detectron2_vitdet_maskrcnn"))
    inner = config
    for key in location[:-1]:
        inner = inner[key]
    inner[location[-1]] = value
    with pytest.raises(ConfigError, match=named):
        translate("detectron2", {**config, "backbone": SWIN})


def test_backbones_that_are_not_there_are_named(shared):
    config = model_of(read_case(shared / "parity", "detectron2_vitdet_maskrcnn"))
    config["backbone"] = {**SWIN, "bottom_up": {"_target_": "detectron2.modeling.backbone.regnet.RegNet"}}
    with pytest.raises(UnsupportedModelError, match="RegNet"):
        translate("detectron2", config)
    config["backbone"] = {"_target_": "BiFPN"}
    with pytest.raises(UnsupportedModelError, match="BiFPN"):
        translate("detectron2", config)

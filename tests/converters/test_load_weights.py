"""load_weights: schemes recognized, load reports, refusals that name the keys, and nothing half loaded."""

from collections import OrderedDict

import pytest
import torch

from densevit.converters import load_weights
from densevit.converters.architectures import ARCHITECTURES
from densevit.converters.key_mapping import invert, remap
from densevit.errors import CheckpointError
from densevit.registry import MODELS

SIZES = dict(
    embed_dims=[8, 16, 40, 64], depths=[1, 1, 2, 1], num_heads=[1, 2, 5, 8], mlp_ratios=[2] * 4, sr_ratios=[8, 4, 2, 1]
)
PVT = dict(type="PVT", arch=SIZES, pretrain_size=64)
PVT_V2 = dict(type="PVTv2", arch=dict(SIZES, linear=False))


def detector(backbone=PVT, **head):
    return MODELS.build(
        dict(
            type="DensePredictor",
            backbone=backbone,
            neck=dict(type="FPN", out_channels=8, start_level=1, extra_levels="conv_on_input"),
            head=dict(type="RetinaNetHead", num_classes=3, feat_channels=8, stacked_convs=1, **head),
        )
    )


def scrambled(model) -> dict[str, torch.Tensor]:
    """The model's state with other numbers."""
    return {key: torch.randn_like(value) for key, value in model.state_dict().items()}


def same(model, state) -> bool:
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def as_classification(state: dict) -> dict:
    """Our backbone's state as whai362's classification files have it: class token, its table row, classifier."""
    table = torch.cat((torch.full((1, 1, 64), 9.0), state["pos_embed4"]), 1)
    more = {"cls_token": torch.zeros(1, 1, 64), "norm.weight": torch.ones(64), "norm.bias": torch.zeros(64)}
    more |= {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}
    return {**state, "pos_embed4": table, **more}


def as_mmdet(state: dict) -> dict:
    """Our detector's state under mmdetection's names, written out by hand as far as no table exists."""
    parts = {"backbone.": ARCHITECTURES["PVT"].keys["mmdet"], "neck.": None, "head.": None}
    found = {}
    for prefix, table in parts.items():
        part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if table is not None:
            part = remap(part, invert(table)).state
        for key, value in part.items():
            if "convs." in key:
                key = key.replace(".weight", ".conv.weight").replace(".bias", ".conv.bias")
            found[prefix.replace("head.", "bbox_head.") + key] = value
    return found


def test_own_weights_are_loaded_as_they_are():
    model = detector()
    state = scrambled(model)
    report = load_weights(model, {"meta": {}, "state_dict": OrderedDict(state)})
    assert report.scheme == "densevit"
    assert report.complete
    assert same(model, state)


def test_preprocessor_buffers_of_a_checkpoint_are_known():
    model = detector()
    state = scrambled(model)
    report = load_weights(model, {**state, "data_preprocessor.mean": torch.zeros(3, 1, 1)})
    assert report.ignored == ["data_preprocessor.mean"]
    assert same(model, state)


def test_a_classification_file_goes_into_the_backbone_and_says_what_it_left_out():
    model = detector()
    state = scrambled(model.backbone)
    report = load_weights(model.backbone, as_classification(state))
    assert report.scheme == "pvt"
    assert sorted(report.ignored) == ["cls_token", "head.bias", "head.weight", "norm.bias", "norm.weight"]
    assert not report.resized
    assert same(model.backbone, state)


def test_the_class_row_is_reported_from_a_table_of_other_size():
    for size in (32, 96, (96, 160), (64, 224), 224):
        model = MODELS.build(dict(PVT, pretrain_size=size))
        state = scrambled(model)
        load_weights(model, as_classification(state), source="whai362")
        assert same(model, state), size
        load_weights(model, state, source="whai362")
        assert same(model, state), size


def test_a_table_of_another_image_size_is_resized_and_listed():
    small, large = MODELS.build(PVT), MODELS.build(dict(PVT, pretrain_size=128))
    state = as_classification(scrambled(small))
    report = load_weights(large, state)
    assert set(report.resized) == {f"pos_embed{i}" for i in (1, 2, 3, 4)}
    assert report.resized["pos_embed1"] == ((1, 256, 8), (1, 1024, 8))
    middle = torch.nn.functional.interpolate(
        state["pos_embed1"].view(1, 16, 16, 8).permute(0, 3, 1, 2), size=(32, 32), mode="bilinear"
    )
    assert torch.allclose(large.pos_embed1, middle.flatten(2).transpose(1, 2), atol=1e-6)


def test_mmdetection_and_whai362_detectors_are_recognized_part_by_part():
    model = detector()
    state = scrambled(model)
    report = load_weights(model, {"state_dict": as_mmdet(state)})
    assert report.scheme == "mmdet"
    assert same(model, state)

    theirs = {k: v for k, v in as_mmdet(state).items() if not k.startswith("backbone.")}
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    official = as_classification(backbone)
    theirs |= {f"backbone.{k}": official[k] for k in backbone}
    model = detector()
    report = load_weights(model, theirs)
    assert report.scheme == "backbone: pvt, neck: mmdet, head: mmdet"
    assert report.complete
    assert same(model, state)


@pytest.mark.parametrize("wrap", ["state_dict", "model", "ema", "module", "nested"])
def test_wrappers_are_taken_off(wrap):
    model = MODELS.build(PVT_V2)
    state = scrambled(model)
    ddp = {f"module.{key}": value for key, value in state.items()}
    content = {"module": ddp, "nested": {"epoch": 3, "model": {"state_dict": ddp}}}.get(wrap, {wrap: state, "epoch": 3})
    load_weights(model, content)
    assert same(model, state)


def test_half_precision_becomes_the_models_own():
    model = MODELS.build(PVT_V2)
    state = {key: value.half() for key, value in scrambled(model).items()}
    load_weights(model, state)
    assert model.norm4.weight.dtype == torch.float32
    assert torch.equal(model.norm4.weight, state["norm4.weight"].float())


def test_a_checkpoint_of_another_model_is_refused_with_names(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(4, 3, 7, 7), "layer1.0.bn1.weight": torch.zeros(4)}, path)
    with pytest.raises(CheckpointError, match=r"resnet\.pth.*conv1\.weight.*another model"):
        load_weights(detector(), path)


def test_missing_unexpected_and_misshapen_names_are_named_and_nothing_changes():
    model = detector()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = scrambled(model)
    del state["neck.lateral_convs.0.bias"]
    state["backbone.block9.0.norm1.weight"] = torch.zeros(8)
    state["head.retina_cls.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state)
    text = str(caught.value)
    assert "lacks neck.lateral_convs.0.bias" in text
    assert "no place for backbone.block9.0.norm1.weight" in text
    assert "head.retina_cls.bias (file 7, model 27)" in text
    assert caught.value.load_report.missing == ["neck.lateral_convs.0.bias"]
    assert same(model, before)


def test_a_misshapen_tensor_beside_a_resizable_table_leaves_the_model_as_it_was():
    small, large = MODELS.build(PVT), MODELS.build(dict(PVT, pretrain_size=128))
    before = {key: value.clone() for key, value in large.state_dict().items()}
    state = scrambled(small)
    state["norm_of_nothing"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="norm_of_nothing"):
        load_weights(large, state)
    del state["norm_of_nothing"]
    state["block1.0.norm1.weight"] = torch.zeros(5)
    with pytest.raises(CheckpointError, match=r"block1\.0\.norm1\.weight \(file 5, model 8\)"):
        load_weights(large, state)
    assert same(large, before)


def test_without_strict_what_fits_is_loaded_and_the_rest_is_on_the_load_report():
    model, other = detector(), detector(anchors=dict(octave_base_scale=4, ratios=(1.0,)))
    state = scrambled(other)
    before = model.head.retina_cls.weight.clone()
    report = load_weights(model, state, strict=False)
    assert "head.retina_cls.weight" in report.mismatched
    assert torch.equal(model.head.retina_cls.weight, before)
    assert torch.equal(model.neck.lateral_convs[0].weight, state["neck.lateral_convs.0.weight"])
    assert "4 mismatched" in str(report)
    assert "\n" not in str(report)
    assert "mismatched        head.retina_cls.weight" in report.table()


def test_the_table_of_a_load_report_counts_groups_and_names_the_rest():
    model = detector()
    report = load_weights(model.backbone, as_classification(scrambled(model.backbone)))
    lines = report.table().splitlines()
    assert any(line.split() == ["ignored", "cls_token"] for line in lines)
    assert len(report.loaded) == len(model.backbone.state_dict())


def test_an_unknown_source_is_named_with_the_nearest():
    with pytest.raises(CheckpointError, match=r"'mmdett'.*nearest: 'mmdet'"):
        load_weights(MODELS.build(PVT), {"a": torch.zeros(1)}, source="mmdett")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"a": 1}}])
def test_a_file_without_weights_is_refused(content):
    with pytest.raises(CheckpointError, match="no weights by name"):
        load_weights(MODELS.build(PVT), content)


def _compiled(key: str) -> str:
    first, _, rest = key.partition(".")
    return f"_orig_mod.{first}._orig_mod.{rest}"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: f"_orig_mod.module.{key}",
        lambda key: f"model.{key}",
        lambda key: f"model._orig_mod.module.{key}",
        lambda key: f"module.model.model.{key}",
        _compiled,
    ],
)
@pytest.mark.parametrize("outer", ["state_dict", "model", "model_state_dict", None])
def test_wrapped_names_are_unwrapped_at_any_depth(tmp_path, wrap, outer):
    given, model = MODELS.build(PVT_V2), MODELS.build(PVT_V2)
    state = {wrap(key): torch.randn_like(value) for key, value in given.state_dict().items()}
    if wrap("").startswith("module."):
        state["n_averaged"] = torch.tensor(3)
    torch.save(state if outer is None else {outer: state}, tmp_path / "a.pth")
    load_weights(model, tmp_path / "a.pth")
    assert all(torch.equal(value, state[wrap(key)]) for key, value in model.state_dict().items())


def test_a_part_whose_own_names_begin_with_model_keeps_them(tmp_path):
    pytest.importorskip("timm")
    backbone = dict(type="TimmBackbone", name="test_vit")
    given, model = MODELS.build(backbone), MODELS.build(backbone)
    state = {key: torch.randn_like(value) for key, value in given.state_dict().items()}
    assert all(key.startswith("model.") for key in state)
    for wrapped in (state, {f"model.{key}": value for key, value in state.items()}):
        load_weights(model, wrapped)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())

"""The models of the shipped recipes at full size: as many parameters as published; a training step and a prediction."""

import ast

import pytest
import tiny
import torch

from densevit.engine.config import config_path, read_config, shipped_configs
from densevit.registry import MODELS

CLASSES = {"coco": 80, "ade20k": 150, "camvid": 11, "scenes": 12, "nyu": None, "kitti": None}


def built(recipe: str, **changes) -> dict:
    """The config of a recipe's model, without the fetching of weights; changes with '__' for '.' go to its backbone."""
    config = read_config(recipe, {f"model.backbone.{key.replace('__', '.')}": v for key, v in changes.items()})
    model = config.model.to_dict()
    for part in (model["backbone"], model["backbone"].get("vit", {})):
        part.pop("init_cfg", None)
    count = CLASSES[recipe.rsplit("_", 1)[1]]
    for head in [model["head"], *model.get("auxiliary", ())]:
        if count and "type" in head:
            head["num_classes"] = count
    return model


PUBLISHED = [
    ("vitdet_maskrcnn_coco", {}, 111),
    ("vitdet_maskrcnn_coco", dict(arch="vitdet_large"), 331),
    ("vitdet_maskrcnn_coco", dict(arch="vitdet_huge"), 662),
    ("vitadapter_maskrcnn_coco", dict(vit__arch="tiny"), 28),
    ("vitadapter_maskrcnn_coco", {}, 48),
    ("vitadapter_maskrcnn_coco", dict(vit__arch="base", deform_num_heads=12, deform_ratio=0.5), 120),
    ("vitadapter_upernet_ade20k", dict(vit__arch="tiny"), 36),
    ("vitadapter_upernet_ade20k", {}, 58),
    ("vitadapter_upernet_ade20k", dict(vit__arch="base", deform_num_heads=12, deform_ratio=0.5), 134),
    ("mvitv2_maskrcnn_coco", {}, 44),
    ("mvitv2_cascade_coco", {}, 76),
    ("mvitv2_cascade_coco", dict(arch="small"), 87),
    ("mvitv2_cascade_coco", dict(arch="base"), 103),
]


@pytest.mark.parametrize(("recipe", "changes", "millions"), PUBLISHED)
def test_parameters_of_a_recipes_model_are_the_published(recipe, changes, millions):
    with torch.device("meta"):
        model = MODELS.build(built(recipe, **changes))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.9)


LOGIC = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.If, ast.IfExp, ast.For, ast.While, ast.Lambda)


@pytest.mark.parametrize("recipe", shipped_configs())
def test_a_recipe_is_flat_and_fits_on_a_screen(recipe):
    """Three bases, the whole model in the file, no logic, the published result in the header."""
    text = config_path(recipe).read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 45
    assert not [node for node in ast.walk(tree) if isinstance(node, LOGIC)]
    header, _, body = text.partition("_base_ = ")
    assert "ublished" in header
    bases = ast.literal_eval(body[: body.index("]") + 1])
    assert len(bases) == 3 and all(base.startswith("_base_/") for base in bases)
    assert bases[1].startswith("_base_/schedule_") and bases[2] == "_base_/runtime.py"
    assert "model" in {node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)}
    assert "_delete_" not in text


BASE = [
    ("vitdet_maskrcnn_coco", {}),
    ("vitdet_cascade_coco", {}),
    ("vitadapter_maskrcnn_coco", dict(vit__arch="base", deform_num_heads=12, deform_ratio=0.5)),
    ("vitadapter_upernet_ade20k", dict(vit__arch="base", deform_num_heads=12, deform_ratio=0.5)),
    ("mvitv2_maskrcnn_coco", dict(arch="base")),
    ("mvitv2_cascade_coco", dict(arch="base")),
    ("dinov2_segmenter_ade20k", dict(arch="base")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "changes"), BASE)
def test_a_recipe_of_base_size_trains_a_step_and_predicts(recipe, changes):
    torch.manual_seed(0)
    config = built(recipe, **changes)
    config["data_preprocessor"] = dict(type="Preprocessor")  # images as small as they come
    model = MODELS.build(config).train()
    data = model.data_preprocessor(tiny.batch((160, 224)), True)
    losses = model(**data, mode="loss")
    total = sum(sum(v) if isinstance(v, list | tuple) else v for key, v in losses.items() if "loss" in key)
    total.backward()
    assert total.isfinite()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    model.eval()
    with torch.no_grad():
        found = model(**data, mode="predict")
    if recipe.endswith("ade20k"):
        assert tuple(found[0].pred_semantic.shape) == (160, 224)
    else:
        assert found[0].pred_instances.bboxes.shape[1] == 4

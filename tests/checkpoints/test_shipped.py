"""Exported weights, and shipped names where a file of weights is expected."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

import densevit.models
from densevit import Predictor, load_weights
from densevit.checkpoints import shipped as table
from densevit.checkpoints.exporting import export_weights
from densevit.checkpoints.pretrained import resolve
from densevit.checkpoints.reading import read_file
from densevit.cli import main
from densevit.engine.config import read_config
from densevit.errors import CheckpointError, ConfigError
from densevit.registry import MODELS, WEIGHT_INITIALIZERS

CLASSES, SEMANTIC = ("cat", "dog"), ("cat", "dog", "floor", "wall", "sky")
CONFIG = """
model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVTv2",
        arch=dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2),
                  sr_ratios=(8, 4, 2, 1), linear=False)),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=dict(
        boxes=dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1, test=dict(score_thr=0.0, max_per_image=9)),
        classes=dict(type="SemanticFPNHead", channels=8),
        depth=dict(type="FPNDepthHead", channels=8, max_depth=20.0)))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A recipe, a checkpoint of random weights as a training writes it, and what is exported of it."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "recipe.py").write_text(CONFIG)
    torch.manual_seed(0)
    settings = dict(read_config(folder / "recipe.py").model)
    model = MODELS.build(settings | dict(classes=CLASSES, semantic_classes=SEMANTIC))
    with torch.no_grad():  # results that differ from location to location
        for name, value in model.named_parameters():
            if name.startswith("head") and name.endswith("weight") and value.ndim == 4:
                value.normal_(0, 0.3)
    dataset = dict(classes=CLASSES, semantic_classes=SEMANTIC, cat_ids=(1, 2), ann_file="/some/where.json")
    meta = dict(dataset_meta=dataset, experiment_name="recipe", epoch=3)
    # as MMEngine's hook leaves them: averages under `state_dict`, what was trained under `ema_state_dict`
    raw = {f"module.{key}": torch.zeros_like(value) for key, value in model.state_dict().items()}
    content = dict(state_dict=model.state_dict(), ema_state_dict=raw, optimizer={}, meta=meta)
    torch.save(content, folder / "epoch_3.pth")
    export_weights(folder / "epoch_3.pth", folder / "new" / "tiny.safetensors")
    return folder


@pytest.fixture
def tiny_scenes(files, monkeypatch):
    """The shipped model 'scenes' is the tiny one."""
    monkeypatch.setattr(table, "FOLDER", files / "new")
    monkeypatch.setitem(table.SHIPPED, "scenes", table.Shipped(str(files / "recipe.py"), "tiny.safetensors"))


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC)


def test_an_export_has_half_the_size_and_the_names_of_the_classes_and_no_paths(files):
    content = read_file(files / "new" / "tiny.safetensors")
    state = torch.load(files / "epoch_3.pth", weights_only=True)["state_dict"]
    assert content["state_dict"].keys() == state.keys()
    for key, value in content["state_dict"].items():
        assert value.dtype == (torch.float16 if state[key].is_floating_point() else state[key].dtype)
        torch.testing.assert_close(value.to(state[key].dtype), state[key], rtol=1e-3, atol=1e-6)
    meta = content["meta"]
    assert meta["dataset_meta"] == dict(classes=list(CLASSES), semantic_classes=list(SEMANTIC), cat_ids=[1, 2])
    assert meta["recipe"] == "recipe" and meta["densevit_version"] == densevit.__version__
    assert "where" not in json.dumps(meta)
    assert [path.name for path in (files / "new").iterdir()] == ["tiny.safetensors"]


def test_predictions_of_the_export_are_close_to_those_of_the_checkpoint(files, image):
    whole = Predictor(files / "recipe.py", files / "epoch_3.pth", "cpu")
    half = Predictor(files / "recipe.py", files / "new" / "tiny.safetensors", "cpu")
    assert all(value.dtype == torch.float32 for value in half.model.parameters())
    assert half.classes == whole.classes == CLASSES and half.semantic_classes == whole.semantic_classes == SEMANTIC
    a, b = whole(image), half(image)
    np.testing.assert_allclose(b.depth, a.depth, rtol=0.02)
    assert (a.semantic == b.semantic).mean() > 0.98 and len(np.unique(a.semantic)) > 1
    np.testing.assert_allclose(b.scores, a.scores, atol=0.01)
    assert a.depth.shape == a.semantic.shape == image.shape[:2]
    assert set(a.to_dict()["classes"]) <= set(SEMANTIC)


def test_a_shipped_name_is_a_model_with_its_weights(tiny_scenes, files, image):
    predictor = Predictor("scenes", device="cpu")
    assert (predictor(image).depth == Predictor(files / "recipe.py", "scenes", "cpu")(image).depth).all()
    assert predictor.classes == CLASSES and str(files) not in str(predictor.classes)
    other = Predictor("scenes", files / "epoch_3.pth", "cpu")
    assert "epoch_3.pth" in str(other.load_report)
    assert predictor(image).draw(0.0).shape[1] > 3 * image.shape[1]


def test_a_shipped_name_stands_for_a_file_of_weights(tiny_scenes, files):
    path = files / "new" / "tiny.safetensors"
    assert resolve(dict(checkpoint="scenes")) == path
    settings = dict(read_config(files / "recipe.py").model, classes=CLASSES, semantic_classes=SEMANTIC)
    model = MODELS.build(settings)
    assert load_weights(model, "scenes").complete
    assert read_file("scenes")["meta"]["dataset_meta"]["cat_ids"] == [1, 2]


@pytest.mark.parametrize("checkpoint", ["scenes", "epoch_3.pth"])
def test_a_part_takes_its_part_of_a_whole_models_weights(tiny_scenes, files, checkpoint):
    given = checkpoint if checkpoint == "scenes" else str(files / checkpoint)
    state = read_file(given)["state_dict"]
    settings = dict(read_config(files / "recipe.py").model)
    backbone = MODELS.build(settings["backbone"])
    WEIGHT_INITIALIZERS.build(dict(type="Pretrained", checkpoint=given))(backbone)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[f"backbone.{key}"].to(value.dtype)), key
    neck = MODELS.build(dict(settings["neck"], in_channels=(8, 16, 24, 32), in_strides=(4, 8, 16, 32)))
    WEIGHT_INITIALIZERS.build(dict(type="Pretrained", checkpoint=given, prefix="neck"))(neck)
    for key, value in neck.state_dict().items():
        assert torch.equal(value, state[f"neck.{key}"].to(value.dtype)), key


def test_a_file_of_the_shipped_name_goes_first(tiny_scenes, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").write_bytes(b"")
    with pytest.raises(CheckpointError, match="scenes is empty"):
        read_file("scenes")


def test_unknown_names_are_refused_with_the_nearest_shipped_one(tmp_path, monkeypatch):
    for ask in (read_file, lambda name: resolve(dict(checkpoint=name)), table.shipped):
        with pytest.raises(CheckpointError, match=r"scene\b.*\(nearest shipped weights: 'scenes'\)"):
            ask("scene")
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such file of weights; check the path\."):
        read_file("nowhere.pth")
    with pytest.raises(ConfigError, match="come with their weights: scenes"):
        Predictor("scene", device="cpu")
    monkeypatch.setattr(table, "FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="missing from this installation"):
        Predictor("scenes", device="cpu")


def test_what_cannot_be_halved_or_written_is_refused(files, tmp_path):
    torch.save({"a": torch.tensor([1e6])}, tmp_path / "large.pth")
    with pytest.raises(CheckpointError, match=r"large\.pth: a holds numbers"):
        export_weights(tmp_path / "large.pth", tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match=r"does not end in \.safetensors"):
        export_weights(files / "epoch_3.pth", tmp_path / "out.pth")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        export_weights(files / "epoch_3.pth", tmp_path / "file" / "out.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_tool_writes_the_file(root, files, tmp_path):
    command = [sys.executable, str(root / "tools" / "export_weights.py"), str(files / "epoch_3.pth"), "a.safetensors"]
    done = subprocess.run([*command, "--recipe", "mine"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "wrote a.safetensors: 0." in done.stdout, done.stderr
    assert read_file(tmp_path / "a.safetensors")["meta"]["recipe"] == "mine"


def test_the_demo_needs_a_shipped_name_alone(tiny_scenes, image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("street.png", image)
    main(["predict", "street.png", "scenes", "--device", "cpu"])
    assert "semantic classes, depth" in capsys.readouterr().out
    assert cv2.imread("outputs/street.png").shape[1] > 3 * 384
    assert {"objects", "classes", "depth"} <= set(json.loads((tmp_path / "outputs" / "street.json").read_text()))


def test_every_shipped_recipe_exists_and_its_file_is_package_data(root):
    import configparser

    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg")
    assert "weights/*" in settings["options.package_data"]["densevit"].split()
    for name, (config, file) in table.SHIPPED.items():
        assert (root / "configs" / f"{config}.py").is_file(), name
        assert file.endswith(".safetensors")

"""import_model on detectron2's files: weights as .pkl or .pth, the lazy configuration as YAML beside them."""

import copy
import functools
import os
import pickle

import pytest
import torch
import yaml
from parity.case import read_case
from torch import nn

from densevit.converters import build, import_model, load_weights
from densevit.converters.sources.detectron2 import read_lazy_config
from densevit.errors import CheckpointError, ConfigError
from densevit.models.backbones.vit import ViT


class ShapeSpec:
    """Stands for an object of detectron2's inside a configuration."""

    def __init__(self) -> None:
        self.channels, self.height = 32, 7


@pytest.fixture
def vitdet(shared):
    """detectron2's configuration and weights of a small ViTDet, and the case they are from."""
    case = read_case(shared / "parity", "detectron2_vitdet_maskrcnn")
    model = build("detectron2", copy.deepcopy(case.model))
    state = {key: torch.randn(shape) * 0.02 for key, shape, *_ in case.state}
    return copy.deepcopy(case.model["model"]), state, model


def saved(model: dict, folder, **more) -> None:
    """As LazyConfig.save writes it: classes by name, objects and partials by YAML's tags."""
    model = copy.deepcopy(model)
    model["backbone"]["net"]["norm_layer"] = functools.partial(nn.LayerNorm, eps=1e-6)
    model["backbone"]["net"]["window_block_indexes"] = (0, 2)
    model["roi_heads"]["box_head"]["input_shape"] = ShapeSpec()
    model["roi_heads"]["box_predictor"]["num_classes"] = "${..num_classes}"
    model["roi_heads"]["mask_head"]["num_classes"] = "${model.roi_heads.num_classes}"
    resize = {"_target_": "detectron2.data.transforms.ResizeShortestEdge", "short_edge_length": 640, "max_size": 640}
    config = {
        "model": model,
        "dataloader": {"test": {"mapper": {"augmentations": [resize]}}},
        "optimizer": {"_target_": torch.optim.AdamW, "params": {"lr_factor_func": functools.partial(max, 1)}},
    }
    (folder / "config.yaml").write_text(yaml.dump(config | more, default_flow_style=None, allow_unicode=True))


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_a_folder_of_a_training_is_imported(vitdet, tmp_path, suffix):
    model, state, _ = vitdet
    saved(model, tmp_path)
    if suffix == "pkl":
        arrays = {key: value.numpy() for key, value in state.items()}
        content = {"model": arrays, "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}
        (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(content))
    else:
        torch.save({"model": state, "iteration": 7}, tmp_path / "model_final.pth")
    found = import_model(tmp_path / f"model_final.{suffix}")
    assert found.load_report.scheme == "detectron2" and found.load_report.complete
    assert found.test_size == (640, 640)
    assert found.model.data_preprocessor.square_pad == 640
    assert found.model.backbone.blocks[0].norm1.eps == 1e-6 and found.model.backbone.windows == {0: 7, 2: 7}
    assert torch.equal(found.model.neck.simfp_2[4].weight, state["backbone.simfp_2.4.weight"])
    assert torch.equal(found.model.backbone.blocks[1].attn.rel_pos_w, state["backbone.net.blocks.1.attn.rel_pos_w"])
    assert torch.equal(found.model.head.box.convs[0].norm.bias, state["roi_heads.box_head.conv1.norm.bias"])


def test_the_configuration_may_lie_elsewhere(vitdet, tmp_path):
    model, state, _ = vitdet
    (tmp_path / "elsewhere").mkdir()
    saved(model, tmp_path / "elsewhere")
    torch.save(state, tmp_path / "a.pth")
    assert import_model(tmp_path / "a.pth", config=tmp_path / "elsewhere" / "config.yaml").load_report.complete
    with pytest.raises(CheckpointError, match="no configuration"):
        import_model(tmp_path / "a.pth")
    (tmp_path / "lazy.py").write_text("model = 1")
    with pytest.raises(CheckpointError, match=r"LazyConfig\.save"):
        import_model(tmp_path / "a.pth", config=tmp_path / "lazy.py")
    with pytest.raises(CheckpointError, match="no such configuration"):
        import_model(tmp_path / "a.pth", config=tmp_path / "none.yaml")


def test_nothing_of_a_configuration_is_run(tmp_path):
    ran = tmp_path / "ran"
    text = f"model: {{_target_: GeneralizedRCNN, a: !!python/object/apply:os.system ['touch {ran}']}}\n"
    (tmp_path / "config.yaml").write_text(text)
    assert read_lazy_config(tmp_path / "config.yaml")["model"]["a"] == [f"touch {ran}"]
    assert not ran.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {a: '${..b}', b: '${..none}'}", "names nothing"),
        ("model: {a: '${model.b}', b: '${model.a}'}", "names nothing"),
        ("model: 1", "nothing about a model"),
        ("model: {a: [}", "cannot be read"),
        ("model: {a: !strange 1}", "cannot be read"),
    ],
)
def test_configurations_that_say_nothing_are_reported(tmp_path, text, said):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        read_lazy_config(tmp_path / "config.yaml")


def test_a_key_that_densevit_does_not_have_is_named_with_its_file(vitdet, tmp_path):
    model, state, _ = vitdet
    model["backbone"]["net"]["strange"] = 1
    saved(model, tmp_path)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"config.yaml: model.backbone.net has the key 'strange'"):
        import_model(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("location", "value", "named"),
    [
        (("backbone", "norm"), "BN", "norm"),
        (("backbone", "top_block"), {"_target_": "LastLevelP6P7"}, "LastLevelP6P7"),
        (("backbone", "net", "patch_size"), 14, "patch_size=16"),
        (("backbone", "net", "norm_layer"), "BatchNorm2d", "norm_layer"),
        (("backbone", "net", "act_layer"), "torch.nn.ReLU", "act_layer"),
        (("backbone", "scale_factors"), [4.0, 3.0], "scales"),
        (("backbone", "out_channels"), 48, "48"),
    ],
)
def test_what_vitdet_does_not_have_here_is_named(vitdet, location, value, named):
    config, _, _ = vitdet
    inner = config
    for key in location[:-1]:
        inner = inner[key]
    inner[location[-1]] = value
    with pytest.raises(ConfigError, match=named):
        build("detectron2", {"lazy_config": "", "model": config})


def test_a_vitdet_starts_from_maes_weights():
    arch = dict(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2)
    mae = ViT(arch=arch, img_size=32, patch_size=8).state_dict() | {"mask_token": torch.zeros(1, 1, 8)}
    options = dict(arch=arch, img_size=32, patch_size=8, tokens=dict(cls=False), final_norm=None)
    windows = dict(size=3, blocks=(0,))
    model = ViT(**options, rel_pos=dict(kind="decomposed", img_size=64), windows=dict(windows, conv_blocks=(1,)))
    report = load_weights(model, mae)
    assert report.complete
    assert {name.split(".", 2)[2] for name in report.newly_initialized} >= {"attn.rel_pos_h", "residual.conv1.weight"}
    assert torch.equal(model.pos_embed, mae["pos_embed"][:, 1:])
    plain = ViT(**options, windows=windows)
    load_weights(plain, mae)
    images = torch.randn(1, 3, 64, 48)
    with torch.no_grad():  # what was added changes nothing at first
        torch.testing.assert_close(model(images), plain(images))


def test_a_file_with_some_of_its_relative_positions_missing_is_refused(vitdet):
    _, state, model = vitdet
    del state["backbone.net.blocks.1.attn.rel_pos_h"]
    with pytest.raises(CheckpointError, match="rel_pos_h"):
        load_weights(model, state)


def test_the_pickle_of_a_file_is_not_run(tmp_path, vitdet):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {ran}",)

    saved(vitdet[0], tmp_path)
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"model": {"a": Evil()}, "__author__": "x"}))
    with pytest.raises(CheckpointError, match="system"):
        import_model(tmp_path / "model_final.pkl")
    assert not ran.exists()

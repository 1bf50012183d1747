"""Promises 11 to 15 of docs/reliability.md: recipes run, misspelt keys are named, files that are data run nothing."""

import copy
import json
import random
import socket

import cv2
import numpy as np
import pytest
import tiny
import torch
from commands import refused, refused_last, run
from short_runs import write_config
from tiny_coco import make_tiny_coco

import densevit.engine
import densevit.models  # noqa: F401
from densevit.engine.build_runner import build_runner
from densevit.engine.config import parse_options, read_config, shipped_configs
from densevit.errors import ConfigError, UserError
from densevit.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

CLASSES = {"coco": 80, "ade20k": 150, "camvid": 11, "scenes": 12, "nyu": 0, "kitti": 0}
FAST = ("pvt_multitask_scenes", "vit_linear_camvid")
"""Boxes, semantic classes and depth; a plain ViT. The others take minutes."""


def family(recipe: str) -> str:
    return recipe.rsplit("_", 1)[1]


@pytest.mark.parametrize("recipe", shipped_configs())
def test_every_recipe_builds_with_an_optimizer_for_all_that_learns(recipe):
    """(11) At full size, on no memory: the model, and the groups of its optimizer."""
    config = read_config(recipe)
    model = config.model.to_dict()
    for part in (model["backbone"], model["backbone"].get("vit", {})):
        part.pop("init_cfg", None)
    if CLASSES[family(recipe)]:
        model["classes"] = tuple(f"class {i}" for i in range(CLASSES[family(recipe)]))
    with torch.device("meta"):
        built = MODELS.build(model)
    settings = copy.deepcopy(config.optim_wrapper.to_dict())
    kind = settings.pop("constructor", "DefaultOptimWrapperConstructor")
    options = dict(optim_wrapper_cfg=settings, paramwise_cfg=settings.pop("paramwise_cfg", None))
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(options, type=kind))(built)
    grouped = {id(p) for group in wrapper.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in built.parameters() if p.requires_grad} <= grouped


def shrunk(recipe: str) -> dict:
    """Options that make a recipe's backbone narrow; its depth, necks, heads and pipelines stay."""
    backbone = read_config(recipe).model.backbone
    location, plain = "model.backbone", backbone.get("vit", backbone)
    options = {f"{location}.init_cfg": None} if "init_cfg" in backbone else {}
    if "vit" in backbone:
        options[f"{location}.deform_num_heads"] = 2
        location += ".vit"
        options[f"{location}.init_cfg"] = None
    if plain.type == "ViT":
        depth = 24 if plain.arch == "large" else 12
        return {**options, f"{location}.arch": dict(_delete_=True, embed_dim=24, depth=depth, num_heads=2, mlp_ratio=1)}
    return {**options, f"{location}.arch": dict(tiny.BACKBONES[plain.type][0]["arch"], _delete_=True)}


def put_data(root, recipe: str) -> dict:
    """Two images to train on and one to validate with, in the tree that the recipe reads; returns further options."""
    kind = family(recipe)
    if read_config(recipe).train_dataloader.dataset.type == "ScenesDataset":
        return {"train_dataloader.dataset.images": 2, "val_dataloader.dataset.images": 1}
    if kind in ("coco", "scenes"):
        make_tiny_coco(root, train=2, val=1)
        return {}
    rng = np.random.default_rng(0)

    def picture(path, high):
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (376, 1242) if kind == "kitti" else (480, 640)
        shape = size if high else (*size, 3)
        cv2.imwrite(
            str(path), rng.integers(1, high or 255, shape, dtype=np.uint16 if high and high > 255 else np.uint8)
        )

    if kind in ("ade20k", "camvid"):
        folders = {
            "ade20k": (("images/training", "annotations/training"), ("images/validation", "annotations/validation")),
            "camvid": (("images/train", "labels/train"), ("images/test", "labels/test")),
        }[kind]
        for (images, maps), count in zip(folders, (2, 1), strict=True):
            for i in range(count):
                picture(root / images / f"{i}.{'jpg' if kind == 'ade20k' else 'png'}", 0)
                picture(root / maps / f"{i}.png", 11)
        return {}
    options = {}
    for section, count in (("train", 2), ("val", 1)):
        lines = []
        for i in range(count):
            picture(root / section / f"rgb_{i}.png", 0)
            picture(root / section / f"depth_{i}.png", 5000)
            lines.append(f"rgb_{i}.png depth_{i}.png 518.8579\n")
        (root / f"{section}.txt").write_text("".join(lines))
        options[f"{section}_dataloader.dataset.ann_file"] = f"{section}.txt"
        options[f"{section}_dataloader.dataset.data_prefix"] = dict(_delete_=True, img=section, depth=section)
    return options


RECIPES = [pytest.param(r, marks=() if r in FAST else pytest.mark.slow) for r in shipped_configs()]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_a_step_and_validates(tmp_path, recipe):
    """(11) With its own pipelines, optimizer and schedule; the backbone is narrow."""
    options = {**shrunk(recipe), **put_data(tmp_path / "data", recipe)}
    options |= {"train_dataloader.batch_size": 2, "val_dataloader.batch_size": 1}
    for section in ("train_dataloader", "val_dataloader"):
        options |= {f"{section}.num_workers": 0, f"{section}.persistent_workers": False}
    by_steps = "max_iters" in read_config(recipe).train_cfg
    options |= {"train_cfg.max_iters": 1} if by_steps else {"train_cfg.max_epochs": 1}
    options["train_cfg.val_interval"] = 1
    if "interval" in read_config(recipe).default_hooks.checkpoint:
        options["default_hooks.checkpoint.interval"] = 1
    has_folder = "data_root" in read_config(recipe).train_dataloader.dataset
    config = read_config(recipe, options, data_root=tmp_path / "data" if has_folder else None)
    config.work_dir = str(tmp_path / "run")
    runner = build_runner(config, pretrained="none")
    runner.train()
    assert runner.iter == 1
    assert all(value.isfinite().all() for value in runner.bare_model.state_dict().values() if value.is_floating_point())
    assert runner.message_hub.get_info("best_score") is not None


def keys_of(config: dict, location: str = "") -> list[str]:
    """The dotted locations of all keys of a config that are arguments, those inside lists included."""
    found = []
    for key, value in config.items():
        found.append(f"{location}{key}")
        parts = value if isinstance(value, (list, tuple)) else [value]
        for i, part in enumerate(parts):
            if isinstance(part, dict):
                found += keys_of(part, f"{location}{key}.{i}." if part is not value else f"{location}{key}.")
    return found


@pytest.mark.parametrize(
    "recipe", ["pvt_retinanet_coco", "swin_upernet_ade20k", "vit_dpt_kitti", "pvt_multitask_scenes"]
)
def test_a_misspelt_key_is_named_with_its_place_and_the_nearest(tmp_path, recipe):
    """(12) Any key at any depth of a recipe, with a letter too many."""
    config = read_config(recipe)._cfg_dict.to_dict()
    free = ("custom_keys", "label_map", "data_prefix", "mp_cfg", "head.boxes", "head.classes", "head.depth")
    locations = [p for p in keys_of(config) if not any(word in p for word in free)]
    locations = [p for p in locations if p.rsplit(".", 1)[-1] not in ("type", "_scope_")]
    for location in random.Random(0).sample(locations, 8):
        wrong = copy.deepcopy(config)
        *way, key = location.split(".")
        part = wrong
        for step in way:
            part = part[int(step) if isinstance(part, (list, tuple)) else step]
        part[key + "x"] = part.pop(key)
        file = tmp_path / "wrong.py"
        file.write_text("".join(f"{name} = {value!r}\n" for name, value in wrong.items()))
        with pytest.raises(ConfigError) as caught:
            read_config(file)
        text = str(caught.value)
        assert f"{key}x" in text and "\n" not in text, (location, text)
        assert f"'{key}'" in text.split("nearest", 1)[-1], (location, text)


PARTS = ("subprocess.Popen", "os.system", "builtins.exec", "builtins.open", "mmengine.fileio.get", "torch.hub.load")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_a_config_in_a_format_of_data_names_registered_parts_only(tmp_path, part, suffix):
    """(13) JSON and YAML never import or call what a `type=` names, wherever in the tree it is."""
    mark = tmp_path / "ran"
    call = {"type": part, "args": ["touch", str(mark)]}
    for location in ("model", "backbone", "init_cfg", "hook", "pipeline"):
        config = read_config("pvt_retinanet_coco")._cfg_dict.to_dict()
        if location == "model":
            config["model"] = call
        elif location == "hook":
            config["custom_hooks"] = [call]
        elif location == "pipeline":
            config["train_dataloader"]["dataset"]["pipeline"][0] = call
        elif location == "backbone":
            config["model"]["backbone"] = call
        else:
            config["model"]["backbone"]["init_cfg"] = call
        file = tmp_path / f"config{suffix}"
        file.write_text(json.dumps(json.loads(json.dumps(config))))  # JSON is YAML
        with pytest.raises(UserError) as caught:
            read_config(file)
        assert "\n" not in str(caught.value)
    assert not mark.exists()


YAML = {
    "object": "model: !!python/object/apply:os.system ['touch {mark}']",
    "new": "model: !!python/object/new:os.system ['touch {mark}']",
    "name": "model: !!python/name:os.system",
    "module": "model: !!python/module:this",
    "base": "_base_: evil.py\nmodel:\n  type: DensePredictor",
    "import": "custom_imports:\n  imports: [evil]\nmodel:\n  type: DensePredictor",
    "template": 'model:\n  type: DensePredictor\n  x: \'{{{{ __import__("os").system("touch {mark}") }}}}\'',
}


@pytest.mark.parametrize("case", YAML)
def test_yaml_runs_nothing(tmp_path, monkeypatch, case):
    """(13) No Python tags, no Python bases, no imports of the file's own."""
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(YAML[case].format(mark=mark) + "\n")
    with pytest.raises(UserError) as caught:
        read_config(file)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


FOREIGN = [
    "https://example.com/config.py",
    "http://example.com/config.py",
    "s3://bucket/config.py",
    "hf://owner/name/config.py",
    "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    "petrel://x/config.py",
]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("as_base", [False, True])
def test_a_python_config_is_a_file_that_is_there_and_is_fetched_from_nowhere(tmp_path, monkeypatch, name, as_base):
    """(14) Neither as the config nor as a base of one."""

    def no_network(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    asked = name
    if as_base:
        asked = tmp_path / "leaf.py"
        asked.write_text(f"_base_ = {name!r}\n")
    with pytest.raises(ConfigError) as caught:
        read_config(asked)
    assert "\n" not in str(caught.value)


TYPED = {
    "1": 1,
    "-1": -1,
    "1e-4": 1e-4,
    "1.": 1.0,
    "True": True,
    "False": False,
    "None": None,
    "text": "text",
    "'1'": "1",
    '"a,b"': "a,b",
    "a/b-c.pth": "a/b-c.pth",
    "[1,2,3]": [1, 2, 3],
    "(1,2)": (1, 2),
    "[]": [],
    "{}": {},
    "[(1,2),(3,4)]": [(1, 2), (3, 4)],
    "{'a':1}": {"a": 1},
    "['a','b']": ["a", "b"],
}


@pytest.mark.parametrize("text", TYPED)
def test_options_of_the_command_line_have_the_type_of_the_literal(text):
    """(15) Python's literals; everything else is text."""
    (value,) = parse_options([f"key={text}"]).values()
    assert value == TYPED[text] and type(value) is type(TYPED[text])
    nested = parse_options([f"key=[{text}]"])["key"] if text not in ("text", "a/b-c.pth") else [value]
    assert nested == [TYPED[text]]


def test_options_arrive_in_the_config_with_their_types(tmp_path):
    """(15) Through to the values that the parts are built of."""
    config = write_config(tmp_path)
    options = ["train_cfg.max_epochs=2", "optim_wrapper.optimizer.lr=2e-4", "optim_wrapper.optimizer.betas=(0.8,0.99)"]
    options += ["model.neck={'type':'FPN','out_channels':16,'num_levels':4}", "ema=True", "load_from=None"]
    found = read_config(config, parse_options(options))
    assert found.train_cfg.max_epochs == 2 and found.optim_wrapper.optimizer.lr == 2e-4
    assert tuple(found.optim_wrapper.optimizer.betas) == (0.8, 0.99)
    assert found.model.neck.out_channels == 16 and found.ema is True and found.load_from is None


OF_ANOTHER_KIND = [
    "train_cfg=3",
    "model=x",
    "model.head=x",
    "model.neck.out_channels=-1",
    "model.neck.num_levels=99",
    "model.head.feat_channels=0",
    "model.head.stacked_convs=-1",
    "train_dataloader.dataset.pipeline=[]",
    "default_hooks.checkpoint.interval=0",
    "model.init_cfg=x",
    "model.backbone.init_cfg=x",
    "train_dataloader.sampler=x",
    "train_dataloader.dataset.indices=[99]",
    "custom_imports=x",
    "custom_imports.imports=not_there",
    "env_cfg=x",
    "ema.momentum=7",
    "ema.momentum=x",
    "model.head.test.score_thr=x",
]


@pytest.mark.parametrize("option", OF_ANOTHER_KIND)
def test_a_setting_of_another_kind_is_one_sentence(tmp_path, root, option):
    """(15) A word or a number in place of a dictionary, a number that cannot be, a part that does not build."""
    config = write_config(tmp_path, train=2, val=1)
    done = run(root, "train.py", config, "--work-dir", tmp_path / "run", "--cfg-options", option)
    assert refused_last(done).startswith("error: ")
    assert "Epoch(train)" not in done.stdout


def test_sizes_and_names_that_cannot_be_are_one_sentence(tmp_path, root):
    """(15) In the tools that take them."""
    refused(run(root, "model_info.py", "pvt_retinanet_coco", "--size", "-1", "5"))
    refused(run(root, "data/make_scenes.py", "--preview", tmp_path / "scenes"))

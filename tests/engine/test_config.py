"""Reading configs: what is wrong is said in one sentence, with its place and the nearest right one."""

import json
import sys

import pytest
import yaml

import densevit
from densevit.engine.config import config_path, parse_options, read_config, shipped_configs
from densevit.engine.config_keys import RUNNER_KEYS
from densevit.errors import ConfigError
from densevit.registry import MODELS

BASE = """
lr = 1e-3
model = dict(type="DensePredictor", backbone=dict(type="PVT", arch="tiny"), head=dict(type="RetinaNetHead"))
train_dataloader = dict(batch_size=2, sampler=dict(type="TrainSampler"), dataset=dict(
    type="CocoDataset", data_root="data/coco", ann_file="annotations/a.json",
    pipeline=[dict(type="LoadImage"), dict(type="Resize", scale=(8, 8)), dict(type="PackSample")]))
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=lr), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4)]
val_evaluator = dict(type="CocoMetric", metric="bbox")
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1))
ema = False
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "leaf.py"
    path.write_text(BASE)
    return path


def sentence(path, options=None, **more) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(path, options, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WRONG = [
    # (line of the file that becomes another, words of the sentence)
    ("optim_wrapper =", "optim_wraper =", ["unknown key 'optim_wraper'", "nearest: 'optim_wrapper'"]),
    ("ema = False", "emma = False", ["'emma'", "'ema'"]),
    ('arch="tiny"', 'archh="tiny"', ["model.backbone.archh", "PVT", "'arch'"]),
    ('type="PVT"', 'type="PTV"', ["model.backbone.type names 'PTV'", "no such model", "'PVT'"]),
    ("batch_size=2", "batchsize=2", ["train_dataloader.batchsize", "'batch_size'"]),
    ('"TrainSampler"', '"TrainSample"', ["train_dataloader.sampler.type", "no such sampler", "'TrainSampler'"]),
    ('type="Resize", scale', 'type="Resize", scales', ["train_dataloader.dataset.pipeline.1.scales", "'scale'"]),
    ('"LoadImage"', '"LoadImages"', ["pipeline.0.type", "no such transform", "'LoadImage'"]),
    ("max_epochs", "max_epoch", ["train_cfg.max_epoch ", "EpochBasedTrainLoop", "'max_epochs'"]),
    ("lr=lr", "learning_rate=lr", ["optim_wrapper.optimizer.learning_rate", "AdamW"]),
    ('"AdamW"', '"AdamWW"', ["no such optimizer", "'AdamW'"]),
    ("max_norm", "maxnorm", ["optim_wrapper.clip_grad.maxnorm", "'max_norm'"]),
    ("start_factor", "start_facter", ["param_scheduler.0.start_facter", "LinearLR", "'start_factor'"]),
    ("metric=", "metrics=", ["val_evaluator.metrics", "CocoMetric", "'metric'"]),
    ("interval=1", "intervall=1", ["default_hooks.checkpoint.intervall", "'interval'"]),
    ("ann_file=", "annfile=", ["train_dataloader.dataset.annfile", "CocoDataset", "'ann_file'"]),
    ("lr = 1e-3", "lr = 1e-3\nlrr = 2e-3", ["unknown key 'lrr'"]),
    ("ema = False", "custom_hooks = [dict(type='EMAHook', momentun=0.1)]", ["custom_hooks.0.momentun", "'momentum'"]),
    ("ema = False", "ema = dict(momentun=0.1)", ["ema.momentun", "'momentum'"]),
    ("ema = False", "custom_hooks = dict(type='EMAHook')", ["custom_hooks", "list"]),
    ("ema = False", "randomness = dict(sed=1)", ["randomness.sed", "'seed'"]),
]


@pytest.mark.parametrize(("right", "wrong", "words"), WRONG, ids=[case[1].split("\n")[-1] for case in WRONG])
def test_what_does_not_exist_is_named_with_its_place_and_the_nearest(config, right, wrong, words):
    read_config(config)
    config.write_text(BASE.replace(right, wrong, 1))
    text = sentence(config)
    assert str(config) in text
    for word in words:
        assert word in text


OPTIONS = [
    ("optim_wraper.type=OptimWrapper", ["'optim_wraper'", "'optim_wrapper'", "--cfg-options"]),
    ("model.backbone.archh=small", ["model.backbone.archh", "'arch'", "--cfg-options"]),
    ("param_scheduler.3.end=1", ["param_scheduler.3.end", "Index 3 exceeds the length"]),
    ("train_cfg.max_epochs.x=1", ["train_cfg.max_epochs.x"]),
    ("lr=2", ["lr", "does nothing"]),
    ("nothing", ["KEY=VALUE"]),
    ("randomness.seed=[1,(2]", ["cannot be read"]),
]


@pytest.mark.parametrize(("option", "words"), OPTIONS, ids=[case[0] for case in OPTIONS])
def test_bad_options_of_the_command_line_are_named(config, option, words):
    with pytest.raises(ConfigError) as caught:
        read_config(config, parse_options([option]))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


AUXILIARY = """
model["auxiliary"] = [
    dict(type="FCNHead", in_index=2, neck_index=0, channels=8, dropout=0.1, losses=[dict(type="DiceLoss")])]
"""


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("channels=8", "chanels=8", ["model.auxiliary.0.chanels is no argument of FCNHead", "'channels'"]),
        ("neck_index", "neck_indx", ["model.auxiliary.0.neck_indx", "'neck_index'"]),
        ("dropout=0.1", "dropuot=0.1", ["model.auxiliary.0.dropuot", "'dropout'"]),  # an argument of its base
        ('"FCNHead"', '"FCNHed"', ["model.auxiliary.0.type names 'FCNHed'", "'FCNHead'"]),
        ('DiceLoss"', 'DiceLoss", smooth=1', ["model.auxiliary.0.losses.0.smooth is no argument of DiceLoss"]),
        (
            'DiceLoss"',
            'DiceLoss", avg_non_ignor=True',
            ["model.auxiliary.0.losses.0.avg_non_ignor", "'avg_non_ignore'"],
        ),
    ],
)
def test_what_is_wrong_in_an_auxiliary_head_is_named(config, right, wrong, words):
    config.write_text(BASE + AUXILIARY)
    read_config(config)
    config.write_text(BASE + AUXILIARY.replace(right, wrong, 1))
    text = sentence(config)
    for word in words:
        assert word in text


def test_options_reach_lists_switches_and_new_arguments(config):
    options = ["param_scheduler.0.end=9", "ema.momentum=0.1", "model.backbone.qkv_bias=False", "train_cfg.max_epochs=3"]
    found = read_config(config, parse_options(options))
    assert found.param_scheduler[0].end == 9 and found.ema == {"momentum": 0.1}
    assert found.model.backbone.qkv_bias is False and found.train_cfg.max_epochs == 3


def test_a_files_own_variables_are_no_settings(tmp_path, config):
    more = "import os\n_folder = os.sep\nfor size in (1, 2):\n    pass\ndef double(x):\n    return 2 * x\n"
    config.write_text(BASE + more)
    assert set(read_config(config)._cfg_dict) == set(read_config(_write(tmp_path / "b.py", BASE))._cfg_dict)
    assert "lr" not in read_config(config)
    config.write_text(BASE + "location = 'runs/1'\n")
    leaf = _write(tmp_path / "c.py", "_base_ = 'leaf.py'\nwork_dir = {{_base_.location}}\n")
    assert read_config(leaf).work_dir == "runs/1"


def _write(path, text):
    path.write_text(text)
    return path


def test_a_dumped_config_can_be_read_again(tmp_path, config):
    first = read_config(config)
    first.dump(tmp_path / "dumped.py")
    assert read_config(tmp_path / "dumped.py")._cfg_dict == first._cfg_dict


def test_data_root_moves_everything_that_lies_in_it(config):
    more = "val_evaluator = dict(type='CocoMetric', ann_file=root + '/annotations/b.json')\n"
    config.write_text(BASE + "root = 'data/coco'\n" + more)
    found = read_config(config, data_root="/elsewhere/")
    assert found.train_dataloader.dataset.data_root == "/elsewhere/"
    assert found.val_evaluator.ann_file == "/elsewhere/annotations/b.json"
    config.write_text("model = dict(type='DensePredictor')\n")
    assert "--data-root x" in sentence(config, data_root="x")


def test_files_that_are_not_there_or_not_python(tmp_path, config):
    text = sentence(tmp_path / "pvt_retinanet_coc.py")
    assert "neither a file" in text and "nearest: 'pvt_retinanet_coco'" in text
    assert "line 2" in sentence(_write(tmp_path / "syntax.py", "a = 1\nb = (\n"))
    text = sentence(_write(tmp_path / "name.py", "a = 1\n\nb = undefined + 1\n"))
    assert "line 3" in text and "NameError" in text
    text = sentence(_write(tmp_path / "base.py", "_base_ = ['gone.py']\n"))
    assert "_base_" in text and "gone.py" in text
    _write(tmp_path / "other.py", "model = dict(type='DensePredictor')\n")
    assert "same key" in sentence(_write(tmp_path / "twice.py", "_base_ = ['leaf.py', 'other.py']\n"))


def test_an_error_in_a_base_names_the_base(tmp_path):
    _write(tmp_path / "base.py", "a = 1\nb = 1 / 0\n")
    text = sentence(_write(tmp_path / "leaf2.py", "_base_ = 'base.py'\n"))
    assert "base.py, line 2" in text and "ZeroDivisionError" in text


def test_types_registered_by_a_module_of_the_users_own_are_known(tmp_path, config, monkeypatch):
    module = tmp_path / "my_parts.py"
    module.write_text(
        "from densevit.registry import MODELS\n\n@MODELS.register_module()\nclass MyBackbone:\n"
        "    def __init__(self, depth, width=3):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = BASE.replace('type="PVT", arch="tiny"', 'type="MyBackbone", depth=3')
    config.write_text(mine)
    assert "no such model" in sentence(config)
    monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS.module_dict))
    imports = "\ncustom_imports = dict(imports=['my_parts'])\n"
    config.write_text(mine + imports)
    read_config(config)
    config.write_text(mine.replace("depth=3", "dept=3") + imports)
    assert "nearest: 'depth'" in sentence(config)
    config.write_text(mine + imports.replace("my_parts", "my_part"))
    assert "custom_imports" in sentence(config)


def test_every_shipped_recipe_is_read(root):
    assert "pvt_retinanet_coco" in shipped_configs()
    for name in shipped_configs():
        found = read_config(name)
        assert found.model.type and config_path(name).parent.name == "configs"
        assert read_config(str(config_path(name)))._cfg_dict == found._cfg_dict
    with pytest.raises(ConfigError, match="nearest: 'pvt_retinanet_coco'"):
        densevit.config_path("pvt_retinanet_cocoo")


def test_the_keys_of_the_runner_are_mmengines(root):
    import inspect
    import re

    from mmengine.runner import Runner

    arguments = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
    read = set(re.findall(r"self\.cfg\.get\(\s*'(\w+)'", inspect.getsource(Runner)))
    assert arguments | read <= RUNNER_KEYS
    assert not RUNNER_KEYS - arguments - read - {"custom_imports", "runner_type", "model_wrapper_cfg"}


# ---- data: YAML and JSON -------------------------------------------------------------------------------


def as_data(config) -> dict:
    return json.loads(json.dumps(read_config(config).to_dict()))


def test_a_config_may_be_json_or_yaml_and_build_on_others(tmp_path, config):
    settings, model = as_data(config), None
    model = settings.pop("model")
    (tmp_path / "base.yaml").write_text("\ufeff" + yaml.safe_dump(settings), encoding="utf-8")
    (tmp_path / "top.json").write_text(
        json.dumps({"_base_": ["base.yaml"], "model": model, "train_cfg": {"max_epochs": 7}})
    )
    found = read_config(tmp_path / "top.json", parse_options(["optim_wrapper.optimizer.lr=0.5"]))
    assert found.train_cfg.max_epochs == 7 and found.optim_wrapper.optimizer.lr == 0.5
    assert found.model.backbone.type == read_config(config).model.backbone.type
    (tmp_path / "last.yml").write_text(
        "_base_: top.json\nwork_dir: runs/{{ fileBasenameNoExtension }}\nload_from: '{{$NO_SUCH_NAME:none.pth}}'\n"
        "train_cfg: {val_interval: !!python/tuple [1]}\n"
        "val_dataloader: {num_workers: {{_base_.train_cfg.max_epochs}}}\n"
    )
    found = read_config(tmp_path / "last.yml")
    assert found.work_dir == "runs/last" and found.load_from == "none.pth" and found.train_cfg.val_interval == (1,)
    assert found.val_dataloader.num_workers == 7


@pytest.mark.parametrize(
    "change",
    [
        dict(model=dict(backbone=dict(type="subprocess.Popen", args=["touch", "ran"]))),
        dict(model=dict(backbone=dict(type="antigravity"))),
        dict(model=dict(backbone=dict(init_cfg=dict(type="Constant", override=dict(type="os.system", name="x"))))),
        dict(model=dict(backbone=dict(_scope_="antigravity"))),
        dict(model=dict(backbone=dict(pretrained=True))),
        dict(custom_imports=dict(imports=["antigravity"])),
        dict(default_scope="antigravity"),
        dict(runner_type="subprocess.Popen"),
        dict(custom_hooks=[dict(type="EMAHook", ema_type="os.system")]),
        dict(default_hooks=dict(checkpoint=dict(type="subprocess.Popen", args=["touch", "ran"]))),
        dict(visualizer=dict(type="Visualizer", vis_backends=[dict(type="os.system")])),
        dict(optim_wrapper=dict(constructor="os.system")),
        dict(optim_wrapper=dict(optimizer=dict(type="os.system"))),
        dict(train_dataloader=dict(collate_fn=dict(type="os.system"))),
        dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type="os.system", command="touch ran")]))),
        dict(val_evaluator=[dict(type="mmengine.os.system")]),
        dict(_base_="run.py"),
        dict(_base_="mmengine::run.py"),
        dict(_base_="self.json"),
    ],
    ids=lambda change: json.dumps(change)[:50],
)
def test_a_config_that_is_data_names_registered_parts_alone(tmp_path, config, change, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.py").write_text("open('ran', 'w')\n")
    (tmp_path / "good.json").write_text(json.dumps(as_data(config)))
    read_config(tmp_path / "good.json")
    (tmp_path / "self.json").write_text(json.dumps({"_base_": "good.json", **change}))
    text = sentence(tmp_path / "self.json")
    assert "self.json" in text and not (tmp_path / "ran").exists() and "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "model: !!python/object/apply:os.system ['touch ran']"),
        ("a.yaml", "model: !!python/name:os.system"),
        ("a.yaml", "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))),
        ("a.yaml", "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))),
        ("a.yaml", "model: &x [*x]"),
        ("a.yaml", "model: " + "[" * 50_000),
        ("a.yaml", "model: " + "9" * 100_000),
        ("a.yaml", "- 1"),
        ("a.json", '{"model": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        ("a.json", '{"model": ' + "9" * 100_000 + "}"),
        ("a.json", "[1]"),
        ("a.json", "<html>"),
        ("a.json", '{"_base_": 7}'),
    ],
    ids=range(13),
)
def test_data_that_cannot_be_read_is_one_sentence(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert name in sentence(tmp_path / name)
    (tmp_path / "above.py").write_text(f"_base_ = {name!r}\n")
    if "ran" in text:
        sentence(tmp_path / "above.py")
        assert not (tmp_path / "ran").exists()


def test_many_bases_of_one_another_are_refused(tmp_path):
    for i in range(40):
        (tmp_path / f"a{i}.json").write_text(json.dumps({"_base_": [f"a{i + 1}.json"] * 2}))
    (tmp_path / "a40.json").write_text("{}")
    assert "_base_" in sentence(tmp_path / "a0.json")


# ---- values of the command line ------------------------------------------------------------------------

VALUES = {
    "1": 1, "-1": -1, "1e-3": 0.001, "-2.5e-3": -0.0025, "1_000": 1000, "True": True, "true": True, "None": None,
    "": "", "word": "word", "two words": "two words", "/data/my set": "/data/my set", "2024-10-11": "2024-10-11",
    "a=b": "a=b", "1#2": "1#2", "it's": "it's", "1.5.2": "1.5.2", "-inf": float("-inf"),
    "1,2": [1, 2], "1,": [1], "1, 2": [1, 2], "a,b": ["a", "b"], "(1,2)": (1, 2), "(a,b)": ("a", "b"), "(1)": (1,),
    "[1, 2]": [1, 2], "[a, 'b c', None]": ["a", "b c", None], "[(a,b),(1,2)]": [("a", "b"), (1, 2)], "[]": [], "()": (),
    "(1,2),(3,4)": [(1, 2), (3, 4)], "[[1, [2]], [x]]": [[1, [2]], ["x"]],
    "'x, y'": "x, y", '"x, y"': "x, y", "'1'": "1", "['a,b', c]": ["a,b", "c"], "'[1,2]'": [1, 2],
    '"[a,b]"': ["a", "b"],
    "{'x': [1,2]}": {"x": [1, 2]}, "{}": {}, "dict(type='X', y=1)": {"type": "X", "y": 1},
    "[dict(type='X', p=dict(q=(1,)))]": [{"type": "X", "p": {"q": (1,)}}],
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_options_take_pythons_literals_and_mmengines_forms(text, value):
    found = parse_options([f"a.b={text}", "c=1"])
    assert found == {"a.b": value, "c": 1} and type(found["a.b"]) is type(value)


def test_what_a_shell_took_apart_within_brackets_is_joined():
    assert parse_options(["a=[1,", "2]", "b=3"]) == {"a": [1, 2], "b": 3}
    assert parse_options(["a=dict(x=[1,", "(2,", "3)])"]) == {"a": {"x": [1, (2, 3)]}}


@pytest.mark.parametrize("text", ["[1,(2]", "{1: }", "{a: 1}", "dict(x)", "[" * 100_000, "'a", "[" * 5000 + "]" * 5000])
def test_an_option_that_cannot_be_read_is_named(text):
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_options([f"a={text}"])


def test_what_comes_from_a_file_is_shown_without_control_characters():
    error = ConfigError("a\x1b[2J\x9bb\u202e\u2028c\nd\ud800 \u00e9\u4e2d")
    assert str(error) == "a\\x1b[2J\\x9bb\\u202e\\u2028c\\nd\\ud800 \u00e9\u4e2d"
    assert len(str(ConfigError("x" * 10**6))) < 10_000

"""Configuration text is read as data; nothing in it is run."""

import pytest

from densevit.converters.sources.mmdet import ConfigText
from densevit.errors import CheckpointError


def read(text: str, name: str = "model"):
    return ConfigText(text, "old.pth")[name]


def test_what_mmengine_writes_is_read():
    text = """
base_lr = 0.001
channels = [64, 128]
norm = dict(type='LN', eps=1e-06)
model = dict(
    backbone=dict(dims=channels, norm=norm, ratios=[0.5] * 2 + [2.0], size=(1333, 800), shift=-1, on=True, off=None),
    lr=base_lr / 2, names='a' 'b', mapping={'x y': 1, **norm}, **norm)
"""
    assert read(text) == {
        "backbone": {
            "dims": [64, 128],
            "norm": {"type": "LN", "eps": 1e-6},
            "ratios": [0.5, 0.5, 2.0],
            "size": (1333, 800),
            "shift": -1,
            "on": True,
            "off": None,
        },
        "lr": 0.0005,
        "names": "ab",
        "mapping": {"x y": 1, "type": "LN", "eps": 1e-6},
        "type": "LN",
        "eps": 1e-6,
    }


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch {mark}')",
        "dict(a=open('{mark}', 'w'))",
        "[open('{mark}', 'w') for _ in range(1)]",
        "(lambda: open('{mark}', 'w'))()",
        'f\'{{open("{mark}", "w")}}\'',
        'eval(\'open("{mark}", "w")\')',
        "print",
        "unbound",
        "dict.fromkeys('a')",
        "[0] * 10 ** 9",
        "[0] * 1000000000",
        "'a' * 1000000000",
        "1 / 0",
        "dict(*[1])",
        "model",
    ],
)
def test_more_than_data_is_refused_and_not_run(tmp_path, expression):
    mark = tmp_path / "ran"
    with pytest.raises(CheckpointError, match=r"old\.pth"):
        read("model = dict(type='RetinaNet', x=" + expression.format(mark=mark) + ")")
    assert not mark.exists()


def test_what_the_model_does_not_need_is_not_looked_at(tmp_path):
    mark = tmp_path / "ran"
    text = f"import os\nos.system('touch {mark}')\nlr = open('{mark}', 'w')\nmodel = dict(type='A')\n"
    assert read(text) == {"type": "A"}
    assert not mark.exists()


def test_text_that_is_no_python_is_named():
    with pytest.raises(CheckpointError, match="no readable text"):
        read("model = dict(")


def test_deep_nesting_is_refused_without_a_crash():
    with pytest.raises(CheckpointError):
        read("model = " + "[" * 5000 + "]" * 5000)

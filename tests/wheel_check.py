"""Predicts with an installed densevit; run outside of the source tree, in an environment that has only the wheel."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import densevit
from densevit import Predictor, config_path
from densevit.registry import MODELS

assert Path.cwd() not in Path(densevit.__file__).parents or "site-packages" in densevit.__file__, densevit.__file__
config = config_path("pvt_retinanet_scenes")
assert config.is_file() and (config.parent / "_base_" / "runtime.py").is_file(), config

import densevit.models  # noqa: E402
from densevit.engine.config import read_config  # noqa: E402

names = ("circle", "square", "cross")
model = MODELS.build(dict(read_config(config).model, classes=names))
meta = dict(dataset_meta=dict(classes=names, cat_ids=(1, 2, 3)))
torch.save(dict(state_dict=model.state_dict(), meta=meta), "weights.pth")
image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
sample = Predictor("pvt_retinanet_scenes", "weights.pth")(image)
assert sample.boxes.shape == (len(sample.names), 4)
assert sample.draw().shape == image.shape
shipped = Predictor("scenes")(image)
assert shipped.semantic.shape == shipped.depth.shape == image.shape[:2]
print(f"densevit {densevit.__version__} from {Path(densevit.__file__).parent}: predicted {len(sample.names)} boxes")

command = Path(sys.executable).with_name("densevit")
cv2.imwrite("image.png", image)
for words in (
    ["version"],
    ["config", "pvt_retinanet_scenes", "--out", "recipe.py"],
    ["predict", "image.png", "scenes"],
):
    subprocess.run([command, *words], check=True)
assert Path("recipe.py").is_file() and Path("outputs/image.png").is_file() and Path("outputs/image.json").is_file()

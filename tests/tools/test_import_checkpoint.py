"""An imported checkpoint becomes a config and safetensors that predict the same."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from densevit import Predictor
from densevit.checkpoints.exporting import write_imported
from densevit.converters import import_model
from densevit.engine.config import config_path, read_config
from densevit.engine.dump_config import config_text


def here(root) -> dict[str, str]:
    """The environment, with this source tree in front of an installed densevit."""
    return {**os.environ, "PYTHONPATH": str(root)}


def test_the_written_recipe_predicts_as_the_checkpoint_does(root, tmp_path):
    old = root / "tests" / "data" / "mmdet" / "retinanet_pvtv2.pth"
    command = [sys.executable, str(root / "tools" / "import_checkpoint.py"), str(old), "--out", str(tmp_path)]
    done = subprocess.run([*command, "--load-report"], capture_output=True, text=True, cwd=root, env=here(root))
    assert done.returncode == 0, done.stderr
    assert "tensors loaded" in done.stdout
    image = np.load(old.with_suffix(".npz"))["img"]
    name = tmp_path / "retinanet_pvtv2"
    ours = Predictor(name.with_suffix(".py"), name.with_suffix(".safetensors"), "cpu")(image)
    direct = Predictor(None, old, "cpu")(image)
    assert ours.names == direct.names
    assert ours.names[0] in ("ball", "box", "cone", "ring", "tube")
    assert np.array_equal(ours.boxes, direct.boxes)


def test_the_recipe_of_a_segmentation_model_predicts_as_its_checkpoint_does(root, tmp_path):
    old = root / "tests" / "data" / "mmseg" / "segmenter_vit.pth"
    command = [sys.executable, str(root / "tools" / "import_checkpoint.py"), str(old), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=here(root))
    assert done.returncode == 0, done.stderr
    image = np.load(old.with_suffix(".npz"))["img"]
    name = tmp_path / "segmenter_vit"
    recipe = Predictor(name.with_suffix(".py"), name.with_suffix(".safetensors"), "cpu")
    assert recipe.model.inference.window == (96, 96)
    found, direct = recipe(image), Predictor(None, old, "cpu")(image)
    assert np.array_equal(found.semantic, direct.semantic)
    assert list(found.semantic_names) == list(direct.semantic_names)


def test_a_file_without_a_configuration_is_one_sentence(root, tmp_path):
    (tmp_path / "empty.pth").write_bytes(b"")
    command = [sys.executable, str(root / "tools" / "import_checkpoint.py"), str(tmp_path / "empty.pth")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=here(root))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "x\nimport os\nos.system('touch ran')\n#",
        "x\rimport os;os.system('touch ran')",
        "x\x85\u2028\x0c'\"\\\x1b[2J",
        "a b+c",
    ],
)
def test_the_name_of_a_file_is_no_code_in_the_recipe(root, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(root / "tests" / "data" / "mmdet" / "retinanet_pvt.pth", tmp_path / f"{name}.pth")
    model = import_model(tmp_path / f"{name}.pth")
    recipes = config_path("pvt_retinanet_coco").parent
    config, weights = write_imported(model, str(tmp_path / f"{name}.pth"), tmp_path / "out", recipes, config_text)
    assert config.stem.isidentifier() and weights.stem == config.stem
    first, *rest = config.read_text(encoding="utf-8").splitlines()
    assert (
        first.startswith("# Imported from x" if name[0] == "x" else "# Imported from a b+c.pth") and first.isprintable()
    )
    assert rest[0].startswith("_base_")
    read_config(config)
    assert not (tmp_path / "ran").exists()

"""Both projects of a comparison run the same weights; what cannot be measured is refused in a sentence."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.backends.base import ellipses
from benchmarks.backends.densevit import DensevitModel
from benchmarks.backends.timm_models import TimmModel
from benchmarks.backends.torchvision_models import TorchvisionModel
from benchmarks.compare import require_same
from benchmarks.model import _random_batch, measure_model, parse_size
from benchmarks.process import BackendProcess
from benchmarks.reference_models import reference_model
from densevit.errors import ConfigError

SIZE = (96, 64)


def request(tmp_path, **more):
    batch = _random_batch(tmp_path, SIZE, 2, smaller=True)
    return dict(device="cpu", seed=0, folder=str(tmp_path), options={}, classes=3, batch=batch, **more)


@pytest.fixture
def backends(tmp_path):
    """A model of timm's, and ours on its weights."""
    theirs = TimmModel(request(tmp_path, model="pvt_v2_b0"))
    facts = theirs.facts()
    ours = DensevitModel(
        request(tmp_path, model="pvt_v2_b0", imported=True, weights=facts["weights"], task=facts["task"])
    )
    return ours, theirs


def outputs(backend, path, with_loss=False):
    backend.write_outputs(str(path), with_loss)
    with np.load(path) as file:
        return dict(file)


def test_a_model_of_timms_and_ours_give_the_same_and_are_run(backends, tmp_path):
    ours, theirs = backends
    found = outputs(ours, tmp_path / "ours.npz", True), outputs(theirs, tmp_path / "theirs.npz", True)
    assert require_same(*found, "maps", "timm").startswith("numbers within")
    assert found[0]["map_0"].shape == (2, 32, 24, 16)
    assert np.isclose(found[0]["loss"], found[1]["loss"], rtol=1e-4)
    # 0.57 G multiply-adds at 224x224 (arXiv 2106.13797, table 1), most of them per pixel: two images of 96x64
    pixels = 2 * SIZE[0] * SIZE[1] / 224**2
    assert 0.5 < theirs.flops() / (2 * 0.57e9 * pixels) < 1.2
    for backend in backends:
        for training in (False, True):
            backend.warm_up("bf16" if training else "float32", False, training)
            assert backend.run() > 0
            assert backend.memory() >= 0


def test_torchvisions_swin_and_ours_give_the_same(tmp_path):
    theirs = TorchvisionModel(request(tmp_path, model="swin_t"))
    ours = DensevitModel(request(tmp_path, model="swin_t", **theirs.facts()))
    found = outputs(ours, tmp_path / "ours.npz"), outputs(theirs, tmp_path / "theirs.npz")
    assert require_same(*found, "maps", "torchvision").startswith("numbers within")
    assert [found[0][f"map_{i}"].shape[1] for i in range(4)] == [96, 192, 384, 768]


def test_other_weights_are_noticed(backends, tmp_path):
    ours, theirs = backends
    next(iter(ours.model.parameters())).data.mul_(1.1)
    with pytest.raises(ConfigError, match="ours and timm do not give the same"):
        require_same(outputs(ours, tmp_path / "a.npz"), outputs(theirs, tmp_path / "b.npz"), "maps", "timm")


@pytest.mark.parametrize("recipe", ["pvt_v2_retinanet_coco", "pvt_fpn_ade20k"])
def test_a_recipe_is_predicted_and_trained_with_random_weights(tmp_path, recipe):
    first = DensevitModel(request(tmp_path, model=recipe))
    facts = first.facts()
    found = outputs(first, tmp_path / "first.npz", True)
    again = DensevitModel(request(tmp_path, model=recipe, weights=facts["weights"], task=facts["task"]))
    assert require_same(found, outputs(again, tmp_path / "again.npz", True), facts["task"], "densevit")
    if facts["task"] == "detections":
        assert len(found["boxes_0"]) > 20  # random weights that find something
    assert np.isfinite(found["loss"])
    first.warm_up("float32", False, True)
    assert first.run() > 0


def test_what_a_user_gets_wrong_is_said_in_a_sentence():
    for text in ("800", "800x", "0x5", "axb", "1x2x3"):
        with pytest.raises(ConfigError, match="is no height and width in pixels"):
            parse_size(text)
    assert parse_size("800x1216") == (800, 1216)
    with pytest.raises(ConfigError, match=r"cannot be started .*pip install .*mmdet==3.3.0"):
        BackendProcess("mmdet", "/no/such/python")
    with (
        pytest.raises(ConfigError, match=r"ended with code 1 .* mmsegmentation==1.2.2"),
        BackendProcess("mmseg", "/bin/false") as backend,
    ):
        backend.ask("open")
    with pytest.raises(ConfigError, match=r"no counterpart in mmseg is known: name its model with --peer-model"):
        reference_model("pvt_retinanet_coco", "mmseg")
    with pytest.raises(ConfigError, match="give the name of a model of timm"):
        reference_model("pvt_retinanet_coco", "timm")
    assert reference_model("pvt_retinanet_coco", "mmdet") == ("retinanet_pvt-t_fpn_1x_coco", False)
    assert reference_model("pvt_v2_b2", "timm") == ("pvt_v2_b2", True)


def test_a_name_that_timm_does_not_have_is_refused(tmp_path):
    from benchmarks.backends.base import BackendError

    with pytest.raises(BackendError, match=r"has no model 'pvt_v2_b9' \(nearest: 'pvt_v2_b\d'\)"):
        TimmModel(request(tmp_path, model="pvt_v2_b9"))


def test_masks_are_the_ellipses_of_their_boxes():
    mask = ellipses(np.array([[10.0, 20.0, 50.0, 40.0]]), (60, 70))[0]
    rows, columns = np.nonzero(mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (10, 20, 50, 40)
    assert abs(mask.sum() / (np.pi * 20 * 10) - 1) < 0.02


@pytest.mark.slow
def test_a_copy_of_ours_takes_as_long_as_ours():
    found = measure_model("pvt_v2_retinanet_coco", (256, 256), peer="densevit", threads=1, rounds=7)
    assert "100.0% of" in found.agreed
    assert 0.7 < found.ratio.median < 1.4
    assert 0.6 < found.memory[0] / found.memory[1] < 1.6
    assert 0 < found.share < 1.2


@pytest.mark.slow
def test_the_tool_says_which_package_a_peers_python_lacks(root):
    pytest.importorskip("timm")
    command = [sys.executable, "tools/benchmark.py", "model", "pvt_retinanet_coco", "--size", "64x64", "--vs", "mmdet"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot import mmdet, which mmdet needs" in done.stderr
    assert "mmcv-lite==2.1.0" in done.stderr
    assert "Traceback" not in done.stderr

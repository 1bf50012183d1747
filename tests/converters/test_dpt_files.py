"""Files of Depth-Anything and of isl-org's DPT, which are tensors alone, open and predict as the repositories do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from densevit import Predictor, import_model
from densevit.checkpoints.exporting import write_imported
from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters import build
from densevit.converters.config_spec import UnsupportedModelError
from densevit.converters.import_model import open_checkpoint
from densevit.engine.dump_config import config_text
from densevit.errors import CheckpointError

SMALL = dict(encoder="vits", features=64, out_channels=[48, 96, 192, 384])
KINDS = {
    "S": SMALL,
    "B": dict(encoder="vitb", features=128, out_channels=[96, 192, 384, 768]),
    "L": dict(encoder="vitl", features=256, out_channels=[256, 512, 1024, 1024]),
    "G": dict(encoder="vitg", features=384, out_channels=[1536] * 4),
}


def as_depth_anything(model) -> dict[str, torch.Tensor]:
    """A model's tensors under the names of Depth-Anything's files, with what nothing uses beside them."""
    state = {f"pretrained.{key}": value for key, value in model.backbone.state_dict().items()}
    for key, value in model.neck[0].state_dict().items():
        linear = key.startswith("readout_projects") and value.ndim == 4
        state[f"depth_head.{key}"] = value[:, :, 0, 0] if linear else value
    for key, value in model.neck[1].state_dict().items():
        words = key.split(".")
        if words[0] == "lateral_convs":
            name = f"layer{int(words[1]) + 1}_rn.weight"
        else:
            name = ".".join([f"refinenet{4 - int(words[1])}", *words[2:]]).replace("unit", "resConfUnit")
        state[f"depth_head.scratch.{name.replace('norm', 'bn')}"] = value
    for theirs, ours in (("1", "conv1"), ("2.0", "conv2"), ("2.2", "depth_pred")):
        for kind in ("weight", "bias"):
            state[f"depth_head.scratch.output_conv{theirs}.{kind}"] = model.head.state_dict()[f"{ours}.{kind}"]
    channels = model.neck[1].out_channels[0]
    state["pretrained.mask_token"] = torch.zeros(1, model.backbone.cls_token.shape[2])
    for location in (1, 2):
        start = f"depth_head.scratch.refinenet4.resConfUnit1.conv{location}"
        state |= {f"{start}.weight": torch.zeros(channels, channels, 3, 3), f"{start}.bias": torch.zeros(channels)}
    return state


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Depth-Anything V2 S with random weights: the model, and its file as the repository writes it."""
    torch.manual_seed(0)
    model = build("depth-anything", dict(type="DepthAnythingV2", kwargs=SMALL))
    path = tmp_path_factory.mktemp("files") / "depth_anything_v2_vits.pth"
    torch.save(as_depth_anything(model), path)
    return model, path


def test_a_file_of_depth_anything_opens_and_what_nothing_uses_is_listed(small):
    model, path = small
    found = import_model(path)
    assert found.load_report.complete
    assert found.load_report.scheme == "depth_anything"
    assert set(found.load_report.ignored) == {
        "pretrained.mask_token",
        *(f"depth_head.scratch.refinenet4.resConfUnit1.conv{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
    }
    image = torch.randn(1, 3, 70, 98)
    with torch.no_grad():
        assert torch.equal(found.model(image), model(image))


@pytest.mark.parametrize(
    ("name", "variant", "blocks", "kind", "limit"),
    [
        ("depth_anything_v2_vits", None, (2, 5, 8, 11), "relative", None),
        ("depth_anything_vits14", None, (8, 9, 10, 11), "relative", None),
        ("depth_anything_v2_metric_hypersim_vits", None, (2, 5, 8, 11), "sigmoid", 20.0),
        ("depth_anything_v2_metric_vkitti_vits", None, (2, 5, 8, 11), "sigmoid", 80.0),
        ("mine", "depth_anything_v1", (8, 9, 10, 11), "relative", None),
        ("mine", "depth_anything_v2", (2, 5, 8, 11), "relative", None),
        ("depth_anything_v2_vits", "depth_anything_v2_metric_12.5", (2, 5, 8, 11), "sigmoid", 12.5),
    ],
)
def test_a_files_name_or_the_user_says_which_depth_anything_it_is(small, recwarn, name, variant, blocks, kind, limit):
    found = inferred(torch.load(small[1], weights_only=True), name, variant)
    model = build(found.source, found.config)
    assert (model.backbone.out_indices, model.head.kind, model.head.max_depth) == (blocks, kind, limit)
    assert found.test_size == dict(scale=(518, 518), fit="cover", divisor=14, cubic=True)
    assert not recwarn.list


def test_a_file_that_does_not_say_is_taken_for_version_2_with_a_warning(small, tmp_path):
    torch.save({"model": torch.load(small[1], weights_only=True), "epoch": 3}, tmp_path / "mine.pth")
    with pytest.warns(UserWarning, match="mine does not state .* relative model of version 2; .*variant="):
        imported = import_model(tmp_path / "mine.pth")
        model = imported.model
    assert (model.backbone.out_indices, model.head.kind) == ((2, 5, 8, 11), "relative")
    with pytest.raises(CheckpointError, match="no variant 'v2': choose from depth_anything_v1"):
        import_model(tmp_path / "mine.pth", variant="v2")


@pytest.mark.parametrize("size", KINDS)
def test_sizes_are_distinguished_by_their_shapes(size):
    kwargs = KINDS[size]
    with torch.device("meta"):
        model = build("depth-anything", dict(type="DepthAnythingV2", kwargs=dict(kwargs, use_clstoken=True)))
        state = as_depth_anything(model)
    if size == "G":  # its repository's names of a gated MLP
        state = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value for key, value in state.items()}
    found = inferred(state, "depth_anything_v2")
    assert found.config["kwargs"] == dict(kwargs, use_bn=False, use_clstoken=True)


def test_a_predictor_shows_an_image_of_any_size_in_its_own(small):
    predictor = Predictor(weights=small[1], device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (61, 97, 3), dtype=np.uint8)
    predictor.pipeline[1]["scale"] = (98, 98)  # the published one takes longer
    found = predictor(image)
    assert found.img_shape == (98, 154)
    assert found.depth.shape == (61, 97)
    assert found.depth_kind == "relative"


def inferred(state: dict, name: str, variant: str | None = None):
    """What a file of that name is taken for."""
    files = CheckpointFiles(Path(f"{name}.pth"), variant)
    files.content = state
    return open_checkpoint(files)


def isl_state(**changes) -> dict:
    """Names and shapes of a small file of isl-org's, as far as they tell the model."""
    state = {
        "scratch.refinenet1.out_conv.weight": (24, 24, 1, 1),
        "pretrained.model.pos_embed": (1, 577, 128),
        "pretrained.model.patch_embed.proj.weight": (128, 3, 16, 16),
        "pretrained.model.blocks.11.norm1.weight": (128,),
        "pretrained.act_postprocess1.0.project.0.weight": (128, 256),
        **{f"pretrained.act_postprocess{i}.3.weight": (8 * i, 128, 1, 1) for i in range(1, 5)},
        **changes,
    }
    return {key: torch.zeros(shape) for key, shape in state.items() if shape is not None}


def test_depth_and_classes_of_isl_are_distinguished():
    found = inferred(isl_state(), "dpt")
    model = build(found.source, found.config)
    assert (type(model.head).__name__, model.head.kind, model.neck[1].out_channels) == (
        "DPTDepthHead",
        "relative",
        (24,),
    )
    assert (model.backbone.grid, model.backbone.out_indices) == ((24, 24), (2, 5, 8, 11))
    assert model.neck[0].out_channels == (8, 16, 24, 32)
    resize = found.test_size
    assert (resize["scale"], resize["fit"], resize["divisor"]) == ((384, 384), "closest", 32)
    classes = {"scratch.output_conv.1.running_mean": (24,), "scratch.output_conv.4.weight": (9, 24, 1, 1)}
    deep = {"pretrained.model.blocks.23.norm1.weight": (128,), "scratch.refinenet1.resConfUnit2.bn1.weight": (24,)}
    found = inferred(isl_state(**classes, **deep), "dpt")
    model = build(found.source, found.config)
    assert (type(model.head).__name__, model.head.num_classes, found.test_size["scale"]) == ("DPTHead", 9, (480, 480))
    assert model.backbone.out_indices == (5, 11, 17, 23)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"pretrained.model.patch_embed.backbone.stem.conv.weight": (1,)}, UnsupportedModelError, "DPT-Hybrid"),
        ({"pretrained.model.pos_embed": None}, UnsupportedModelError, "MiDaS"),
        ({"pretrained.model.blocks.12.norm1.weight": (1,)}, CheckpointError, "13 blocks"),
    ],
)
def test_files_of_isl_that_densevit_has_no_model_of_are_named(tmp_path, changes, kind, said):
    torch.save(isl_state(**changes), tmp_path / "dpt.pt")
    with pytest.raises(kind, match=rf"dpt\.pt holds .*{said}"):
        import_model(tmp_path / "dpt.pt")


def test_a_variant_is_for_depth_anything_alone():
    with pytest.raises(CheckpointError, match="omit the variant"):
        inferred(isl_state(), "dpt", "depth_anything_v1")


def test_the_recipe_written_of_a_metric_model_predicts_as_its_file_does(small, root, tmp_path):
    file = tmp_path / "depth_anything_v2_metric_hypersim_vits.pth"
    file.symlink_to(small[1])
    imported = import_model(file)
    config, weights = write_imported(imported, file, tmp_path / "out", root / "configs", config_text)
    image = np.random.default_rng(0).integers(0, 255, (61, 97, 3), dtype=np.uint8)
    found = [Predictor(config, weights, "cpu"), Predictor(None, file, "cpu")]
    resizes = [[step for step in predictor.pipeline if step["type"] == "Resize"] for predictor in found]
    for (resize,) in resizes:
        resize["scale"] = tuple(resize["scale"])
    assert resizes[0] == resizes[1] == [dict(type="Resize", scale=(518, 518), fit="cover", divisor=14, cubic=True)]
    for predictor in found:
        predictor.pipeline[1]["scale"] = (98, 98)  # the published one takes longer
    ours, direct = (predictor(image) for predictor in found)
    assert ours.depth_kind == direct.depth_kind == "metric"
    assert np.array_equal(ours.depth, direct.depth)

"""Models are recorded by torch.export and torch.jit.trace at any size, and what was recorded gives their numbers."""

import warnings

import matrix
import numpy as np
import pytest
import torch
from test_matrix import DIAGONAL

import densevit.models  # noqa: F401
from densevit.engine.config import read_config, shipped_configs
from densevit.ops.caching import by_bytes
from densevit.registry import MODELS

SIZE = (97, 131)


def without_weights(settings):
    """A model's configuration that loads no file."""
    if isinstance(settings, dict):
        return {key: without_weights(value) for key, value in settings.items() if key != "init_cfg"}
    return type(settings)(map(without_weights, settings)) if isinstance(settings, (list, tuple)) else settings


def tensors(found) -> list[torch.Tensor]:
    """All tensors of a head's outputs, heads by their names."""
    if isinstance(found, torch.Tensor):
        return [found]
    parts = [found[key] for key in sorted(found)] if isinstance(found, dict) else found
    return [x for part in parts for x in tensors(part)]


@pytest.fixture
def tiny_model(request):
    torch.manual_seed(0)
    _, _, backbone, necks, heads = request.param
    model = MODELS.build(matrix.model(backbone, necks, heads)).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():  # so that no bias and no table of positions is zero
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model, torch.randn(2, 3, *SIZE)


IDS = [f"{row[0]}-{row[1]}-{row[4][0]}" for row in DIAGONAL]
each_part = pytest.mark.parametrize("tiny_model", DIAGONAL, ids=IDS, indirect=True)


class Flat(torch.nn.Module):
    """A model whose outputs are a tuple of tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return tuple(tensors(self.model(images)))


def assert_equal(found, wanted):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@each_part
def test_an_exported_program_gives_the_numbers_of_its_model(tiny_model):
    model, images = tiny_model
    by_bytes.clear()
    program = torch.export.export(model, (images,))
    assert by_bytes.bytes == 0, "what was made under an export was kept"
    wanted = tensors(model(images))
    assert_equal(tensors(program.module()(images)), wanted)
    assert_equal(tensors(program.module()(images.flip(3))), tensors(model(images.flip(3))))


@each_part
def test_a_traced_model_gives_the_numbers_of_its_model(tiny_model):
    model, images = tiny_model
    flat = Flat(model)
    wanted, others = flat(images), flat(images.flip(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants, as they are meant to
        traced = torch.jit.trace(flat, images, check_trace=False)
    assert_equal(traced(images), wanted)
    assert_equal(traced(images.flip(3)), others)


@each_part
def test_openvino_runs_what_was_exported(tiny_model):
    openvino = pytest.importorskip("openvino")
    model, images = tiny_model
    if type(model.backbone).__name__ == "TimmBackbone":
        pytest.skip("timm resizes a table of positions by an operator that OpenVINO lacks (antialiased bicubic)")
    wanted = tensors(model(images))
    program = torch.export.export(Flat(model), (images,))
    compiled = openvino.compile_model(
        openvino.convert_model(program), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    assert_equal([np.array(compiled(images.numpy())[i]) for i in range(len(wanted))], wanted)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if i % 6 == 0 else pytest.mark.slow) for i, name in enumerate(shipped_configs())],
)
def test_every_recipe_is_exported_at_a_size_that_is_no_multiple(name):
    settings = without_weights(read_config(name).model.to_dict())
    settings = {"classes": ("a", "b", "c"), "semantic_classes": ("a", "b", "c", "d")} | settings
    with torch.device("meta"):
        model = MODELS.build(settings).eval()
    with torch.no_grad():
        program = torch.export.export(model, (torch.empty(1, 3, 203, 331, device="meta"),))
    assert len(tensors([node.meta["val"] for node in program.graph.output_node().args[0]]))

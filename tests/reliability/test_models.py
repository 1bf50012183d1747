"""Promises 21 to 27 of docs/reliability.md: every backbone, neck and head on hard inputs and in other forms."""

import copy

import matrix
import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config
from test_matrix import DIAGONAL
from torch._dynamo.testing import CompileCounter

import densevit.models  # noqa: F401
from densevit import Predictor
from densevit.kernels import attention as attention_module
from densevit.kernels.attention import attention
from densevit.models.layers import decomposed_rel_pos
from densevit.registry import MODELS

ROWS = [pytest.param(*row[2:], id=f"{row[0]}-{row[1]}-{row[4][0]}") for row in DIAGONAL]
"""Rows of the matrix in which every backbone, every chain of necks and every head is."""
FAST = [p.id for p in ROWS if p.id.startswith(("PVTv2-", "ViT-none"))]
COMPILED = [p if p.id in FAST else pytest.param(*p.values, id=p.id, marks=pytest.mark.slow) for p in ROWS]


def build(backbone: dict, necks: list, heads: tuple, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return MODELS.build(copy.deepcopy(matrix.model(backbone, necks, heads)))


def total_loss(model: torch.nn.Module, batch: dict) -> torch.Tensor:
    losses = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode="loss")
    parts = [sum(v) if isinstance(v, (list, tuple)) else v for key, v in losses.items() if "loss" in key]
    assert parts and all(part.isfinite() for part in parts), losses
    return sum(parts)


def fields(sample) -> dict:
    """All predictions of a sample as tensors by name."""
    found = {}
    for key in sample.keys():  # noqa: SIM118
        value = sample.get(key)
        if key == "pred_instances":
            found.update({f"{key}.{name}": torch.as_tensor(value[name]) for name in ("bboxes", "scores", "labels")})
        elif key.startswith("pred_"):
            found[key] = value
    return found


@pytest.mark.parametrize(("backbone", "necks", "heads"), ROWS)
def test_a_batch_without_ground_truth_has_a_finite_loss_and_a_gradient_for_every_parameter(backbone, necks, heads):
    """(21) No boxes, no class of any pixel, no depth; a parameter without a gradient makes other processes wait."""
    reached = []
    for ground_truth in ({}, dict(boxes=(), labels=())):
        model = build(backbone, necks, heads).train()
        total_loss(model, tiny.batch(**ground_truth)).backward()
        reached.append({name for name, p in model.named_parameters() if p.grad is not None})
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert reached[0] == reached[1]
    assert {name for name, _ in model.named_parameters() if name.startswith("head.")} <= reached[1]


@pytest.mark.parametrize("size", [(97, 131), (33, 40), (3, 5)], ids=str)
@pytest.mark.parametrize(("backbone", "necks", "heads"), ROWS)
def test_any_size_of_image_trains_and_predicts(backbone, necks, heads, size):
    """(22) No multiple of a patch or a window; smaller than a patch; one place of the coarsest map."""
    model = build(backbone, necks, heads).train()
    box = [0, 0, max(size[1] - 1, 1), max(size[0] - 1, 1)]
    total_loss(model, tiny.batch(size, boxes=(box,), labels=(1,))).backward()
    with torch.no_grad():
        (found, *_) = model.eval().test_step(tiny.batch(size, 1))
    for name, value in fields(found).items():
        if name.startswith("pred_instances"):
            assert value.isfinite().all()
        else:
            assert value.shape == size


@pytest.mark.parametrize(("backbone", "necks", "heads"), ROWS)
def test_images_of_different_sizes_together_give_what_each_gives_alone(tmp_path, backbone, necks, heads):
    """(23) In any order, through the Predictor's batches."""
    config = matrix.model(backbone, necks, heads)
    torch.save({"state_dict": build(backbone, necks, heads).state_dict()}, tmp_path / "weights.pth")
    predictor = Predictor(Config(dict(model=config)), tmp_path / "weights.pth", "cpu")
    predictor.pipeline = [dict(type="LoadImage"), dict(type="PackSample")]  # images as they are
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 96), (40, 70), (64, 96), (97, 33))]
    for image, together in zip(images, predictor.batch(images), strict=True):
        alone = fields(predictor(image))
        for name, value in fields(together).items():
            if name == "pred_semantic":  # two classes may be as likely
                assert (value == alone[name]).float().mean() > 0.999
            else:
                torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("keys", [7, 49, 300, 700])
@pytest.mark.parametrize("masked", [None, "rows", "full"])
def test_the_fused_attention_is_the_formula(monkeypatch, keys, masked, trained):
    """(24) softmax(scale q k^T + mask) v, whatever kernel is chosen, and its gradients."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (90, keys, keys))
    mask = {None: None, "rows": torch.randn(1, 1, 1, keys), "full": torch.randn(2, 3, 90, keys)}[masked]
    mask = None if mask is None else mask.double()
    logits = query @ key.transpose(-1, -2) * 0.3 + (0 if mask is None else mask)
    wanted = logits.softmax(-1) @ value
    for plain in (False, True):
        monkeypatch.setattr(attention_module, "plain_is_faster", lambda *_, plain=plain: plain)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
            parts = [x.to(dtype).requires_grad_(trained) for x in (query, key, value)]
            with torch.set_grad_enabled(trained):
                found = attention(*parts, None if mask is None else mask.to(dtype), 0.3)
            torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)
            if trained and dtype == torch.float32:
                exact = [x.clone().requires_grad_() for x in (query, key, value)]
                logits = exact[0] @ exact[1].transpose(-1, -2) * 0.3 + (0 if mask is None else mask)
                (logits.softmax(-1) @ exact[2]).square().sum().backward()
                found.square().sum().backward()
                for x, y in zip(parts, exact, strict=True):
                    torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", tiny.BACKBONES)
def test_maps_do_not_depend_on_the_kernel_of_attention(monkeypatch, name):
    """(24) torch's fused kernel and the plain form in every backbone."""
    torch.manual_seed(0)
    found = []
    for plain in (False, True):
        for module in (attention_module, decomposed_rel_pos):
            monkeypatch.setattr(module, "plain_is_faster", lambda *_, plain=plain: plain)
        torch.manual_seed(0)
        backbone = MODELS.build(dict(type=name, **tiny.BACKBONES[name][0])).eval()
        torch.manual_seed(1)
        with torch.no_grad():
            found.append(backbone(torch.rand(1, 3, 97, 131)))
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("backbone", "necks", "heads"), ROWS)
def test_bf16_autocast_stays_finite(backbone, necks, heads):
    """(25) Losses, gradients and predictions, on random, black and white images."""
    model = build(backbone, necks, heads)
    for value in (None, 0, 255):
        batch = tiny.batch()
        if value is not None:
            batch["inputs"] = [torch.full_like(image, value) for image in batch["inputs"]]
        model.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            total_loss(model, batch).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = model.eval().test_step(copy.deepcopy(batch))
        for sample in found:
            assert all(torch.as_tensor(x).isfinite().all() for x in fields(sample).values())


def tensors(found) -> list[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        return [found]
    return [x for part in (found.values() if isinstance(found, dict) else found) for x in tensors(part)]


@pytest.mark.parametrize(("backbone", "necks", "heads"), COMPILED)
def test_the_exported_graph_gives_the_same_numbers(backbone, necks, heads):
    """(26) torch.export of backbone, necks and the heads' forward, on other images than the one it was traced with."""
    model = build(backbone, necks, heads).eval()
    first, second = torch.rand(2, 1, 3, 64, 96)
    with torch.no_grad():
        exported = torch.export.export(model, (first,)).module()
        wanted, found = tensors(model(second)), tensors(exported(second))
    assert len(wanted) == len(found) > 0
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("backbone", "necks", "heads"), COMPILED)
def test_training_compiles_without_a_graph_break(backbone, necks, heads):
    """(27) Forward of all parts with gradients; for prediction and further sizes see tests/models/test_compile.py."""
    torch._dynamo.reset()
    model = build(backbone, necks, heads).train()
    counter = CompileCounter()
    for part in [model.backbone, *(model.neck or []), *(head for _, head in model.heads())]:
        part.compile(backend=counter, fullgraph=True)
    sum(x.float().square().mean() for x in tensors(model(torch.rand(2, 3, 64, 96)))).backward()
    assert counter.frame_count == 1 + len(necks) + len(heads)

"""Deformable attention, in every form, against one loop over its definition."""

import itertools
import math

import pytest
import torch

from densevit.errors import ConfigError
from densevit.ops.deformable_attention import FORMS, deformable_attention

SIZES = [(5, 3), (2, 4), (1, 1)]


def drawn(batch=2, queries=3, heads=2, points=4, dtype=torch.float64, grad=False) -> tuple:
    """Values, points (a third of them outside of the maps) and weights, not normalized."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(batch, sum(h * w for h, w in SIZES), heads, 6, generator=generator, dtype=torch.float64)
    locations = torch.rand(batch, queries, heads, len(SIZES), points, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(batch, queries, heads, len(SIZES), points, generator=generator, dtype=torch.float64)
    return tuple(x.to(dtype).requires_grad_(grad) for x in (value, locations * 1.5 - 0.25, weights))


def by_definition(value, sizes, points, weights):
    """One sample and one pixel at a time: a pixel counts by how near the sample is to it, up to one pixel."""
    batch, _, heads, width = value.shape
    rows = []
    for b, q, m in itertools.product(range(batch), range(points.shape[1]), range(heads)):
        total, start = value.new_zeros(width), 0
        for level, (h, w) in enumerate(sizes):
            for k in range(points.shape[4]):
                x, y = points[b, q, m, level, k, 0] * w - 0.5, points[b, q, m, level, k, 1] * h - 0.5
                for i, j in itertools.product(range(h), range(w)):
                    if abs(x.item() - j) < 1 and abs(y.item() - i) < 1:
                        near = (1 - (x - j).abs()) * (1 - (y - i).abs())
                        total = total + weights[b, q, m, level, k] * near * value[b, start + i * w + j, m]
            start += h * w
        rows.append(total)
    return torch.stack(rows).reshape(batch, points.shape[1], heads * width)


@pytest.mark.parametrize("form", FORMS)
def test_sums_and_gradients_are_those_of_a_loop_over_the_definition(form):
    ours, loop = drawn(grad=True), drawn(grad=True)
    out = deformable_attention(ours[0], SIZES, ours[1], ours[2], form)
    want = by_definition(loop[0], SIZES, loop[1], loop[2])
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    share = torch.randn(want.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for x, y in zip(
        torch.autograd.grad((out * share).sum(), ours), torch.autograd.grad((want * share).sum(), loop), strict=True
    ):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_a_sample_at_a_center_is_the_pixel_and_one_outside_is_zero(form):
    value = torch.arange(1.0, 13.0).view(1, 12, 1, 1)
    centers = [((j + 0.5) / 4, (i + 0.5) / 3) for i in range(3) for j in range(4)] + [(-1.0, 0.5), (0.5, 9.0)]
    points = torch.tensor(centers).view(1, 14, 1, 1, 1, 2)
    out = deformable_attention(value, [(3, 4)], points, torch.ones(1, 14, 1, 1, 1), form)
    torch.testing.assert_close(out.flatten(), torch.tensor([*range(1, 13), 0, 0], dtype=torch.float32))


@pytest.mark.parametrize("form", FORMS)
def test_values_in_bfloat16_give_sums_in_bfloat16_near_the_exact_ones(form):
    value, points, weights = drawn(dtype=torch.float32)
    exact = deformable_attention(value, SIZES, points, weights, form)
    rough = deformable_attention(value.bfloat16(), SIZES, points, weights, form)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.02 * exact.abs().max()


def test_points_that_are_no_numbers_give_no_numbers_instead_of_a_crash():
    value, points, weights = drawn(dtype=torch.float32)
    points[0, 0] = math.nan
    out = deformable_attention(value, SIZES, points, weights)
    assert out[0, 0].isnan().all()
    assert out[0, 1:].isfinite().all()
    assert out[1].isfinite().all()


def test_an_exported_graph_holds_gather_and_gives_the_same():
    class Layer(torch.nn.Module):
        def forward(self, value, points, weights):
            return deformable_attention(value, SIZES, points, weights)

    inputs = drawn(dtype=torch.float32)
    program = torch.export.export(Layer(), inputs)
    called = {str(node.target) for node in program.graph.nodes}
    assert "aten.gather.default" in called
    assert not any("embedding_bag" in name or "grid_sampler" in name for name in called)
    torch.testing.assert_close(program.module()(*inputs), Layer()(*inputs))


def test_an_unknown_form_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'smaple'.*sample"):
        deformable_attention(drawn()[0], SIZES, *drawn()[1:], form="smaple")

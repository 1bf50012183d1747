"""Ratios come from paired rounds; operations and memory are those that can be counted by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.backends.measuring import flops_of, gemm_peak, peak_memory, seconds_of
from benchmarks.ratios import alternate, ratio_of

CPU = torch.device("cpu")


def test_a_project_that_takes_twice_as_long_has_the_ratio_two(monkeypatch):
    from benchmarks.backends import measuring

    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])

    def project(seconds):
        return lambda: seconds_of(lambda: now.__setitem__(0, now[0] + seconds), CPU)

    ratio = ratio_of(*alternate(project(0.25), project(0.5), 5))
    assert ratio == (2, 2, 2, 0.25, 0.5, 5)


def test_the_ratio_is_the_median_of_the_rounds_and_not_of_the_projects():
    # the machine becomes ten times slower half-way: the ratio of each round is still 2
    ratio = ratio_of([1, 1, 10, 10, 10], [2, 2, 20, 20, 20])
    assert (ratio.low, ratio.median, ratio.high) == (2, 2, 2)
    assert str(ratio) == "2.00x (2.00 to 2.00, 5 rounds)"


def test_projects_alternate_and_the_order_changes():
    order = []
    alternate(lambda: order.append("a"), lambda: order.append("b"), 3)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_operations_are_those_of_the_formulas():
    x, conv, linear = torch.randn(2, 3, 10, 12), nn.Conv2d(3, 5, 3, padding=1), nn.Linear(7, 11)
    assert flops_of(lambda: conv(x)) == 2 * 2 * 5 * 3 * 9 * 10 * 12
    assert flops_of(lambda: linear(torch.randn(4, 7))) == 2 * 4 * 7 * 11
    query = torch.randn(1, 2, 6, 8)
    assert flops_of(lambda: F.scaled_dot_product_attention(query, query, query)) == 2 * 2 * (2 * 6 * 6 * 8)


def test_the_peak_of_memory_is_what_was_held_at_once():
    def run():
        for _ in range(8):  # one after the other
            torch.ones(48 << 18)  # 48 MiB

    found = peak_memory(run, CPU)
    assert 44 << 20 < found < 160 << 20  # all eight hold 384; the system may take one back late


def test_a_matrix_product_does_not_beat_the_peak(monkeypatch):
    from benchmarks.backends import measuring

    monkeypatch.setitem(measuring.SQUARES, "cpu", (64, 256))
    peak = gemm_peak(torch.float32, CPU)
    assert 1e8 < peak < 1e15


@pytest.mark.parametrize("values", [([1.0], [3.0])])
def test_one_round_is_its_own_spread(values):
    assert ratio_of(*values)[:3] == (3, 3, 3)

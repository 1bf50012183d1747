"""What is kept for the next image of a size is bounded by bytes, whatever sizes come, and equal for all threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from densevit.kernels.resized_conv import shifted_resize
from densevit.kernels.window_partition import WindowConfig, window_partition
from densevit.models.layers.decomposed_rel_pos import distances, marks_of
from densevit.models.layers.deformable_attention import SpatialShapes, sampling_locations
from densevit.models.layers.self_attention import relative_places
from densevit.ops.anchors import octave_scales, pyramid_anchors, pyramid_valid
from densevit.ops.caching import ByteCache, by_bytes, size_of

CPU = torch.device("cpu")


def numbers(cache, calls):
    @cache
    def made(count):
        calls.append(count)
        return torch.arange(count, dtype=torch.uint8)

    return made


def test_what_was_not_used_for_longest_goes_when_the_bytes_are_used_up():
    cache, calls = ByteCache(1000), []
    made = numbers(cache, calls)
    for count in (100, 200, 100, 150, 100, 200):  # 300, 400 and 350 bytes with what holds them
        assert len(made(count)) == count
        assert cache.bytes <= 1000
    assert calls == [100, 200, 150, 200]


def test_what_is_larger_than_the_cache_is_made_anew():
    cache, calls = ByteCache(1000), []
    made = numbers(cache, calls)
    assert [len(made(count)) for count in (10, 5000, 5000, 10)] == [10, 5000, 5000, 10]
    assert calls == [10, 5000, 5000]


def test_tensors_and_arrays_are_counted_in_tuples_of_tuples():
    assert size_of((torch.zeros(1000), (np.zeros(100), None))) == pytest.approx(4800, abs=600)


def test_a_fake_tensor_is_never_kept_nor_a_kept_one_given_to_fake_ones():
    made = numbers(ByteCache(1000), [])
    with FakeTensorMode():
        assert isinstance(made(7), FakeTensor)
    assert not isinstance(made(7), FakeTensor)
    with FakeTensorMode():
        assert isinstance(made(7), FakeTensor)


@pytest.mark.parametrize(
    "made",
    [
        lambda i: pyramid_anchors(((200, 300 + i), (100, 150)), (8, 16), octave_scales(4, 3), (0.5, 1.0, 2.0), CPU),
        lambda i: pyramid_valid(((900, 1200 + i),), (50, 60), (8,), 9, CPU),
        lambda i: window_partition(WindowConfig((7, 7), (3, 3)), 4, (200, 300 + i), CPU),
        lambda i: relative_places((16, 17 + i % 50), CPU),
        lambda i: distances(1000, 1000 + i, CPU),
        lambda i: marks_of((64, 65 + i), CPU),
        lambda i: shifted_resize(400, 800 + i, 3, False, torch.float32, CPU),
        lambda i: sampling_locations([SpatialShapes((200, 300 + i), 8)], [SpatialShapes((200, 300 + i), 8)], CPU),
    ],
    ids=["anchors", "valid", "windows", "relative", "distances", "marks", "resize", "deformable"],
)
def test_all_that_is_kept_by_size_shares_one_bound(monkeypatch, made):
    by_bytes.clear()
    monkeypatch.setattr(by_bytes, "limit", 2**25)
    before = made(0)
    for i in range(12):
        made(i)
        assert 0 < by_bytes.bytes <= 2**25
    for a, b in zip(*(map(torch.as_tensor, flat(x)) for x in (before, made(0))), strict=True):
        assert torch.equal(a, b)
    by_bytes.clear()


def flat(made):
    return [x for part in made if part is not None for x in flat(part)] if isinstance(made, tuple) else [made]


def test_threads_get_equal_results():
    cache = ByteCache(3000)
    made = numbers(cache, [])
    with ThreadPoolExecutor(8) as pool:
        counts = [i % 17 * 50 for i in range(2000)]
        assert [len(x) for x in pool.map(made, counts)] == counts
    assert cache.bytes == sum(size for _, size in cache._kept.values()) <= 3000


def test_what_is_kept_is_made_of_true_numbers_also_for_a_device_that_is_not_there():
    """How many windows a shift tears apart depends on numbers, which fake tensors have not."""
    by_bytes.clear()
    with FakeTensorMode():
        fake = window_partition(WindowConfig((3, 3), (1, 1)), 2, (7, 8), torch.device("cuda", 0))
    real = window_partition(WindowConfig((3, 3), (1, 1)), 2, (7, 8), CPU)
    for a, b in zip(flat(fake), flat(real), strict=True):
        if isinstance(b, torch.Tensor):
            assert isinstance(a, FakeTensor) and not isinstance(b, FakeTensor)
            assert a.device == torch.device("cuda", 0) and a.shape == b.shape
        else:
            assert a == b

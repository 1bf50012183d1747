"""Windows by index equal windows by padding, rolling and reshaping, and masks equal the definition."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from densevit.kernels.window_partition import (
    MASK_VALUE,
    PlainWindows,
    WindowConfig,
    relative_positions,
    window_partition,
)

CPU = torch.device("cpu")
SIZES = [(6, 9), (7, 7), (5, 11), (3, 3), (2, 8), (1, 1)]


def by_rolling(x, window_config):
    """(B, h, w, C) -> (B, rows, columns, N, C), the textbook way."""
    (height, width), shift = window_config.window, window_config.shift
    if not window_config.pad_first:
        x = x.roll((-shift[0], -shift[1]), (1, 2))
    x = F.pad(x, (0, 0, 0, -x.shape[2] % width, 0, -x.shape[1] % height))
    if window_config.pad_first:
        x = x.roll((-shift[0], -shift[1]), (1, 2))
    return x.unflatten(2, (-1, width)).unflatten(1, (-1, height)).transpose(2, 3).flatten(3, 4)


@pytest.mark.parametrize("pad_first", [True, False])
@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (2, 0)])
@pytest.mark.parametrize("size", SIZES)
def test_cutting_equals_padding_and_rolling_up_to_the_order_and_joining_undoes_it(size, shift, pad_first):
    window_config = WindowConfig((3, 4), shift, pad_first=pad_first)
    x = torch.arange(1.0, 2 * size[0] * size[1] * 5 + 1).view(2, size[0] * size[1], 5)
    layout = window_partition(window_config, 2, size, CPU)
    windows = layout.partition(x)
    want = by_rolling(x.unflatten(1, size), window_config).flatten(0, 2)
    as_rows = lambda w: sorted(map(tuple, w.flatten(1).tolist()))  # noqa: E731
    assert as_rows(windows) == as_rows(want)
    assert torch.equal(layout.reverse(windows, 2), x)


@pytest.mark.parametrize("pad_first", [True, False])
@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (2, 3)])
@pytest.mark.parametrize("size", SIZES)
def test_the_plain_form_has_the_same_windows_with_the_same_masks(size, shift, pad_first):
    window_config = WindowConfig((3, 4), shift, pad_first=pad_first)
    x, fill = torch.arange(1.0, 2 * size[0] * size[1] * 5 + 1).view(2, size[0] * size[1], 5), -torch.ones(5)
    layout, plain = window_partition(window_config, 2, size, CPU), PlainWindows(window_config, 2, size, CPU)
    assert plain.shape == layout.shape
    assert torch.equal(plain.partition(x), by_rolling(x.unflatten(1, size), window_config).flatten(0, 2))
    assert torch.equal(plain.reverse(plain.partition(x, fill), 2), x)

    def described(windows, fill):
        """Each window's tokens with its mask, in an order of their own."""
        masks = torch.zeros(windows.shape[0], windows.shape[1] ** 2)
        if windows.mask is not None:
            masks[windows.inner :] = windows.mask.flatten(1)
        return sorted(map(tuple, torch.cat((windows.partition(x, fill).flatten(1), masks), 1).tolist()))

    for value in (None, fill):
        assert described(plain, value) == described(layout, value)


@pytest.mark.parametrize("size", SIZES)
def test_images_alternate_within_a_window_and_masked_windows_come_last(size):
    x = torch.stack((torch.zeros(size[0] * size[1], 1), torch.ones(size[0] * size[1], 1)))
    layout = window_partition(WindowConfig((3, 3), (1, 1), pad_first=False), 2, size, CPU)
    windows = layout.partition(x)
    assert (windows[::2] == 0).all()
    assert windows[1::2].flatten(1).amax(1).eq(1).all()
    assert layout.inner % 2 == 0
    assert len(windows) == layout.inner + (0 if layout.mask is None else len(layout.mask))


@pytest.mark.parametrize("size", [(6, 9), (9, 6), (3, 3)])
def test_places_of_a_shifted_window_see_each_other_where_they_are_neighbors_in_the_image(size):
    """On maps of whole windows: two tokens of a window are apart where its torn border lies between them."""
    layout = window_partition(WindowConfig((3, 3), (1, 1)), 1, size, CPU)
    locations = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij"), -1).view(1, -1, 2).float()
    windows = layout.partition(locations)
    for index, window in enumerate(windows):
        far = (window[:, None] - window[None]).abs().amax(-1) >= 3
        if index < layout.inner:
            assert not far.any()
        else:
            mask = layout.mask[index - layout.inner, 0]
            assert far.any() or min(size) == 3
            assert (mask[far] == MASK_VALUE).all()
            if min(size) > 3:  # on a smaller map tokens may be torn apart that are close
                assert (mask[~far] == 0).all()


def test_a_map_no_larger_than_a_window_is_left_in_place_only_where_reported():
    moved, still = (window_partition(WindowConfig((4, 4), (2, 2), shift), 1, (4, 9), CPU) for shift in (True, False))
    assert moved.mask is not None
    assert still.mask is None
    assert window_partition(WindowConfig((4, 4), (2, 2), False), 1, (5, 9), CPU).mask is not None


def test_cuts_are_kept_and_a_first_use_in_inference_mode_does_not_spoil_training():
    window_config = WindowConfig((5, 3), (2, 1))
    with torch.inference_mode():
        first = window_partition(window_config, 1, (7, 8), CPU)
    assert window_partition(window_config, 1, (7, 8), CPU) is first
    x = torch.rand(1, 56, 2, requires_grad=True)
    first.reverse(first.partition(x), 1).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_relative_positions_number_the_offsets_row_by_row():
    index = relative_positions((2, 3))
    locations = list(itertools.product(range(2), range(3)))
    for i, j in itertools.product(range(6), repeat=2):
        down, right = locations[i][0] - locations[j][0] + 1, locations[i][1] - locations[j][1] + 2
        assert index[i, j] == down * 5 + right

"""Inference by windows against loops over pixels, and against the whole image where the two must agree."""

import pytest
import tiny
import torch

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.inference.sliding_window import SlidingWindow, window_starts
from densevit.registry import MODELS

HEADS = dict(classes=dict(type="SemanticFPNHead", channels=8), depth=dict(type="FPNDepthHead", max_depth=9, channels=8))


def build(**changes):
    torch.manual_seed(0)
    return MODELS.build({**tiny.model_config(), "head": HEADS, **changes}).eval()


def twin(model, **inference):
    """The same network, by windows."""
    other = build(inference=dict(type="SlidingWindow", **inference))
    other.load_state_dict(model.state_dict())
    return other


def by_loops(look, images, window, stride):
    """mmsegmentation's rule, one window after the other, and the count pixel by pixel."""
    (h, w), (down, right), (high, wide) = window, stride, images.shape[2:]
    total, count = 0, torch.zeros(high, wide)
    for i in range(max(high - h + down - 1, 0) // down + 1):
        for j in range(max(wide - w + right - 1, 0) // right + 1):
            y2, x2 = min(i * down + h, high), min(j * right + w, wide)
            y1, x1 = max(y2 - h, 0), max(x2 - w, 0)
            found = look(images[:, :, y1:y2, x1:x2])
            padded = torch.zeros(*found.shape[:2], high, wide)
            padded[:, :, y1:y2, x1:x2] = found
            total = total + padded
            count[y1:y2, x1:x2] += 1
    assert count.min() >= 1
    return total / count


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((70, 90), (32, 40), (20, 40)), ((64, 64), (32, 32), (32, 32)), ((33, 100), (64, 32), (64, 31)),
     ((40, 41), (40, 40), (7, 9)), ((50, 60), (17, 13), (1, 5))],
)  # fmt: skip
@pytest.mark.parametrize("at_once", [1, 5])
def test_windows_are_summed_and_divided_as_one_after_the_other(size, window, stride, at_once):
    random = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, *size, generator=random)

    def look(crops):  # depends on where in the window a pixel lies
        ramp = torch.arange(crops.shape[2])[:, None] * 0.1 + torch.arange(crops.shape[3]) * 0.01
        return torch.cat((crops.mean(1, keepdim=True) + ramp, crops[:, :1].cumsum(3)), 1)

    ours = SlidingWindow(window, stride, at_once).average(lambda crops: {"a": look(crops)}, images)["a"]
    torch.testing.assert_close(ours, by_loops(look, images, window, stride), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("side", range(1, 60))
def test_windows_lie_inside_and_cover_a_side(side):
    starts, length = window_starts(side, 16, 11)
    covered = {x for start in starts for x in range(start, start + length)}
    assert covered == set(range(side)) and starts == sorted(set(starts))
    assert len(starts) == max(side - 16 + 11 - 1, 0) // 11 + 1


def test_a_pointwise_network_gives_what_it_gives_on_the_whole():
    images = torch.randn(2, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    layer = torch.nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        ours = SlidingWindow(16, 16, 3).average(lambda crops: {"a": layer(crops)}, images)["a"]
        torch.testing.assert_close(ours, layer(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (50, 83)])
def test_an_image_no_larger_than_the_window_is_the_whole_image_to_the_bit(size):
    whole = build()
    windows = twin(whole, window=96, stride=64)
    with torch.inference_mode():
        *first, losses = whole.val_step(tiny.batch(size))
        *second, same = windows.val_step(tiny.batch(size))
        third = windows.test_step(tiny.batch(size))
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a.pred_depth, b.pred_depth) and torch.equal(a.pred_depth, c.pred_depth)
        assert torch.equal(a.pred_semantic, b.pred_semantic) and torch.equal(a.pred_semantic, c.pred_semantic)
    assert losses.loss.keys() == same.loss.keys()
    for key, value in losses.loss.items():
        torch.testing.assert_close(same.loss[key], value)


def test_all_heads_of_maps_are_averaged_over_the_networks_windows():
    whole = build()
    windows = twin(whole, window=(48, 64), stride=(32, 48))
    images = windows.data_preprocessor(tiny.batch((64, 160)))["inputs"]
    with torch.inference_mode():
        ours = windows.maps(images)
        for name in HEADS:
            expected = by_loops(lambda crops, name=name: whole.maps(crops)[name], images, (48, 64), (32, 48))
            torch.testing.assert_close(ours[name], expected, rtol=1e-5, atol=1e-5)
        found = windows.test_step(tiny.batch((64, 160)))[0]
    assert torch.equal(found.pred_semantic, ours["classes"][0].argmax(0))
    assert torch.equal(found.pred_depth, ours["depth"][0, 0])


def test_mistakes_are_reported_in_a_sentence():
    with pytest.raises(ConfigError, match=r"windows of 64 pixels by steps of 65"):
        SlidingWindow(64, 65)
    with pytest.raises(ConfigError, match=r"model.head.boxes, a RetinaNetHead, predicts none: leave model.inference"):
        head = dict(HEADS, boxes=tiny.model_config()["head"])
        build(head=head, inference=dict(type="SlidingWindow", window=64, stride=32))

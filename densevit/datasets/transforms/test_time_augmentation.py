"""Test-time augmentation: an image at several sizes and flipped; the model averages its predictions over these
views."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmcv.transforms import BaseTransform, Compose

from densevit.datasets.transforms.geometry import RandomFlip, keep_ratio_size, resize
from densevit.errors import ConfigError
from densevit.registry import TRANSFORMS


@TRANSFORMS.register_module()
class TestTimeAugmentation(BaseTransform):
    """Runs the end of a test pipeline as it is, then once for each view of the image.

    Gives dict(inputs=[image, view 1, view 2, ...], data_samples likewise): the first with the ground truth, the views,
    which the model averages, without.

    Args:
        steps: the end of the pipeline; where the first is `Resize`, a view's scale multiplies the one stated there, and
            where there is no Resize the image's own size.
        scales: factors of the size.
        flip: also flip each size left to right.
    """

    __test__ = False  # no test, whatever pytest thinks of the name

    def __init__(self, steps: Sequence[Mapping], scales: Sequence[float] = (1.0,), flip: bool = False) -> None:
        self.scales, self.flip = check_scales(scales), flip
        self.plain = Compose([TRANSFORMS.build(dict(step)) for step in steps])
        self.views = [Compose(_steps(steps, scale, side)) for scale in self.scales for side in range(1 + flip)]

    def transform(self, results: dict) -> dict:
        unseen = {key: value for key, value in results.items() if not key.startswith(("gt_", "original_"))}
        packed = [self.plain(dict(results)), *(view(dict(unseen)) for view in self.views)]
        return {key: [one[key] for one in packed] for key in ("inputs", "data_samples")}


def with_augmentation(pipeline: Sequence[Mapping], scales: Sequence[float] | None, flip: bool) -> list[dict]:
    """A test pipeline, as configs, that gives several views of each image; unchanged where none are asked for.

    Args:
        pipeline: of which all from `Resize` on, or without one all but the loading, is run for each view.
        scales: factors of the size; None: 1.
        flip: also flip each size left to right.

    Raises:
        ConfigError: there is a scale that is no number above zero.
    """
    steps = [dict(step) for step in pipeline]
    if scales is None and not flip:
        return steps
    kinds = [_kind(step) for step in steps]
    if "Resize" in kinds:
        first = kinds.index("Resize")
    else:
        loading = ("Load", "KBCrop")
        first = next((index for index, kind in enumerate(kinds) if not kind.startswith(loading)), len(steps))
    scales = (1.0,) if scales is None else check_scales(scales)
    return [*steps[:first], dict(type="TestTimeAugmentation", steps=steps[first:], scales=scales, flip=flip)]


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The factors as numbers; ConfigError where they are none."""
    if not scales or not all(isinstance(scale, int | float) and 0 < scale < float("inf") for scale in scales):
        raise ConfigError(f"views of an image need scales above zero such as (0.75, 1, 1.25), not {scales!r}.")
    return tuple(float(scale) for scale in scales)


def _steps(steps: Sequence[Mapping], scale: float, flipped: int) -> list[Callable]:
    """What makes one view of an image: the same steps at another size, with no ground truth."""
    steps = [dict(step) for step in steps if _kind(step) != "LoadAnnotations"]
    first: list[Callable] = []
    if steps and _kind(steps[0]) == "Resize":
        step = steps.pop(0)
        first.append(TRANSFORMS.build({**step, "scale": tuple(_times(side, scale) for side in step["scale"])}))
    elif scale != 1:
        first.append(_ByFactor(scale))
    if flipped:
        first.append(RandomFlip(prob=1.0))
    return [*first, *(TRANSFORMS.build(step) for step in steps)]


class _ByFactor:
    """Resizes an image by a factor, its sides rounded as mmcv does."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, results: dict) -> dict:
        height, width = results["img"].shape[:2]
        scale = _times(width, self.factor), _times(height, self.factor)
        return resize(results, keep_ratio_size((height, width), scale))


def _times(side: int, factor: float) -> int:
    return max(1, int(side * factor + 0.5))


def _kind(step: Mapping[str, Any]) -> str:
    """The name of a step's class, without a scope."""
    kind = step["type"]
    return kind.rsplit(".", 1)[-1] if isinstance(kind, str) else kind.__name__

"""Every recipe trains and predicts on a CUDA device that is not there, and seldom makes the host wait for it.

torch's FakeTensorMode knows devices and sizes without numbers; so nothing may mix devices, and what depends on numbers
(how many boxes there are) is made up here. Wherever it does, the host would wait for the device: that is counted.
"""

from pathlib import Path

import pytest
import tiny
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

import densevit.models  # noqa: F401
from densevit.engine.config import read_config
from densevit.registry import MODELS

aten, CUDA = torch.ops.aten, torch.device("cuda", 0)
FOUND = 6
"""How many locations, pairs or boxes there are wherever that depends on numbers."""
WAITS = {"retinanet": (7, 18), "maskrcnn": (17, 20), "cascade": (37, 28), "multitask": (6, 16)}
"""How often at most the host waits in a training step and in a prediction of two images, by the recipe's head. Dense
heads never do. What waits: of an image the locations of the objects' anchors and regions, NMS, how many regions a map
has, and the boxes and masks that are brought to the host."""
FAST = ("pvt_retinanet_coco", "pvt_multitask_scenes", "mvitv2_cascade_coco", "swin_maskrcnn_coco", "vit_upernet_ade20k")


class HostWaits(TorchDispatchMode):
    """Counts what makes the host wait, and makes up what it would wait for."""

    def __init__(self):
        super().__init__()
        self.count, self.host = 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, first = kwargs or {}, args[0] if args else None
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if any(id(x) in self.host for x in tensors):
            with _disable_current_modes():
                return self.on_host(func, *tree_map_only(FakeTensor, self.made_up, args), **kwargs)
        here = any(x.device.type == "cuda" for x in tensors)
        if func is aten._local_scalar_dense.default:
            self.count += here
            return {torch.bool: False, torch.float32: 1.0, torch.float64: 1.0}.get(first.dtype, 1)
        if not here:
            return func(*args, **kwargs)
        if func is aten._to_copy.default and torch.device(kwargs.get("device") or CUDA).type == "cpu":
            self.count += 1
            with _disable_current_modes():
                return self.on_host(torch.zeros, first.shape, dtype=kwargs.get("dtype") or first.dtype)
        if func is aten.nonzero.default:
            return self.locations(first)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            indices = []
            for index in args[1]:
                if index is None or index.dtype != torch.bool:
                    indices.append(index)
                else:
                    indices += self.locations(index).unbind(1)
            return func(first, indices, *args[2:], **kwargs)
        if func is torch.ops.torchvision.nms.default:
            self.count += 1
            return first.new_zeros(min(FOUND, len(first)), dtype=torch.long)
        if func is aten.bincount.default:
            self.count += 2  # and for what reads them
            with _disable_current_modes():
                return self.on_host(torch.tensor, [len(first)] + [0] * (args[2] - 1))
        return func(*args, **kwargs)

    def on_host(self, make, *args, **kwargs):
        """What was copied to the host has numbers, made up too, and is no fake tensor."""
        made = make(*args, **kwargs)
        self.host |= {id(x): x for x in tree_leaves(made) if isinstance(x, torch.Tensor)}
        return made

    @staticmethod
    def made_up(x: FakeTensor) -> torch.Tensor:
        assert x.device.type == "cpu"
        return torch.ones(x.shape, dtype=x.dtype)

    def locations(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x.new_zeros(min(FOUND, x.numel()), x.dim(), dtype=torch.long)


def recipes() -> list[str]:
    return sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.py"))


def model_of(recipe: str) -> torch.nn.Module:
    settings = read_config(recipe).model.to_dict()
    for part in (settings["backbone"], settings["backbone"].get("vit", {})):
        part.pop("init_cfg", None)
    settings["classes"] = tuple("abcdefghijk" if recipe.endswith("camvid") else "abc")  # camvid weighs its classes
    with torch.device(CUDA):
        return MODELS.build(settings)


@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in recipes()]
)
def test_a_recipe_trains_and_predicts_on_a_cuda_device(recipe):
    with FakeTensorMode(), HostWaits() as waits:
        model = model_of(recipe).train()
        model._set_device(CUDA)  # as to() does for the preprocessor
        data = tiny.batch((256, 320))
        data = model.data_preprocessor(data, True)
        waits.count = 0
        losses = model(**data, mode="loss")
        total = sum(sum(v) if isinstance(v, (list, tuple)) else v for v in losses.values())
        trained, waits.count = waits.count, 0
        assert total.device == CUDA and total.requires_grad
        with torch.no_grad():
            model.eval()(**model.data_preprocessor(tiny.batch((256, 320)), False), mode="predict")
    print(f"{recipe}: {trained} in a training step, {waits.count} in a prediction")
    most = WAITS.get(recipe.split("_")[-2], (0, 0))
    assert trained <= most[0] and waits.count <= most[1]

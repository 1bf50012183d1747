"""Two processes with two images each have the loss and the gradients of one process with the four, for every head."""

import pytest
import tiny
import torch
import torch.distributed as dist
import torch.multiprocessing

import densevit.models  # noqa: F401
from densevit.models.losses.processes import mean_over_processes, sum_over_processes
from densevit.registry import MODELS

ALL = dict(sample=dict(num=100_000))  # nothing is drawn: every anchor and region counts
_MAP, _DEPTH = dict(num_classes=3, in_channels=(8,), in_strides=(16,)), dict(in_channels=(8,), in_strides=(2,))
_CLASS_LOSSES = [
    [dict(type="CrossEntropyLoss", class_weight=(1.0, 2.0, 5.0)), dict(type="CrossEntropyLoss", avg_non_ignore=False)],
    dict(type="CrossEntropyLoss", class_weight=(1.0, 2.0, 5.0), avg_non_ignore=False),
    [dict(type="BinaryCrossEntropyLoss"), dict(type="DiceLoss"), dict(type="FocalLoss", alpha=0.25)],
]
_DEPTH_LOSSES = [
    dict(type="SILogLoss", over="batch", variance_focus=0.85),
    [dict(type="SILogLoss"), dict(type="DepthL1Loss")],
    [dict(type="ScaleShiftInvariantLoss", alignment=name) for name in ("least_squares", "median")],
]


def heads() -> dict[str, dict]:
    """Every registered head that draws nothing, and every loss of maps."""
    found = {}
    for name, configs in tiny.HEADS.items():
        for i, config in enumerate(configs):
            config = dict(config, type=name)
            if name in ("MaskRCNNHead", "CascadeRCNNHead"):
                config |= dict(rpn={**config["rpn"], **ALL}, box={**config["box"], **ALL})
            if "ohem" not in str(config):  # hard pixels are chosen by each process
                found[f"{name}-{i}"] = config
    found |= {f"classes-{i}": dict(_MAP, type="FCNHead", losses=losses) for i, losses in enumerate(_CLASS_LOSSES)}
    depth = dict(_DEPTH, type="DPTDepthHead", kind="sigmoid", max_depth=20.0)
    return found | {f"depth-{i}": dict(depth, losses=losses) for i, losses in enumerate(_DEPTH_LOSSES)}


def sample_of(image: int, filled: int):
    """Of image 0 and the further ones below `filled` there are objects, classes and depths; the rest has none."""
    boxes = ((4, 4, 40, 50), (30, 20, 90, 60), (50, 4, 70, 30))[: max(0, filled - image)]
    return tiny.sample(boxes=boxes, labels=(0, 2, 1)[: len(boxes)])


def step(config: dict, images: range, filled: int, several: bool = False) -> dict[str, torch.Tensor]:
    """The losses and gradients of a step; of several processes their means, as the trainer takes them."""
    torch.manual_seed(0)
    head = MODELS.build(dict(in_channels=tiny.HEAD_CHANNELS, in_strides=tiny.FEATURE_STRIDES) | config).eval()
    strides = config.get("in_strides", tiny.FEATURE_STRIDES)
    features = [torch.randn(4, 8, 64 // s, 96 // s)[images.start : images.stop] for s in strides]
    losses = head.loss(features, [sample_of(i, filled) for i in images])
    found = {k: sum(v) if isinstance(v, (list, tuple)) else v for k, v in losses.items()}
    sum(found.values()).backward()
    found = {k: v.detach() for k, v in found.items()} | {k: p.grad for k, p in head.named_parameters()}
    if several:
        for value in found.values():
            dist.all_reduce(value)
            value /= dist.get_world_size()
    return found


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {
        (name, filled): step(config, range(2 * rank, 2 * rank + 2), filled, several=True)
        for name, config in heads().items()
        for filled in (0, 1, 3)
    }
    if rank == 0:
        torch.save(found, f"{folder}/found.pth")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("joint")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return torch.load(folder / "found.pth")


@pytest.mark.parametrize("filled", [0, 1, 3], ids=["nothing", "one process has something", "unequal"])
@pytest.mark.parametrize("name", heads())
def test_two_processes_have_the_loss_and_gradients_of_the_joint_batch(of_two, name, filled):
    wanted, found = step(heads()[name], range(4), filled), of_two[name, filled]
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        scale = max(1.0, float(value.abs().max()))
        assert (found[key] - value).abs().max() <= 1e-5 * scale, key
    if filled == 3:
        assert any(value.abs().max() > 0 for value in wanted.values())


def test_one_process_is_left_as_it_is():
    values = torch.tensor([0, 3])
    assert mean_over_processes(values).tolist() == [1, 3] and mean_over_processes(0) == 1
    assert mean_over_processes(torch.tensor(0.5), least=0) == 0.5
    assert sum_over_processes(values) is values

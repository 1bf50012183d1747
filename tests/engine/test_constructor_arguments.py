"""The arguments that a config may give: those of the constructors, followed through `**kwargs` to where they end."""

import pytest
import torchvision
from torch import nn

from densevit.engine.config_checks import WORDS
from densevit.engine.constructor_arguments import find, keyword_arguments, registered


class Base(nn.Module):
    def __init__(self, depth, *, width: int = 1):
        super().__init__()


class PassesOn(Base):
    def __init__(self, name, **rest):
        super().__init__(**rest)


class Keeps(Base):
    def __init__(self, name, **rest):
        super().__init__(1)
        self.rest = rest


class Inherits(PassesOn):
    pass


@pytest.mark.parametrize(
    ("kind", "arguments", "takes_any"),
    [
        (Base, {"depth", "width"}, False),
        (PassesOn, {"name", "depth", "width"}, False),
        (Inherits, {"name", "depth", "width"}, False),
        (Keeps, {"name"}, True),
        (nn.Module, set(), False),
        (lambda a, b=1: None, {"a", "b"}, False),
        (lambda a, **rest: None, {"a"}, True),
        (dict, set(), True),
    ],
)
def test_arguments_are_followed_to_the_constructors_that_take_them(kind, arguments, takes_any):
    assert keyword_arguments(kind) == (arguments, takes_any)


@pytest.mark.parametrize(
    ("registry", "name", "some"),
    [
        ("OPTIMIZERS", "AdamW", {"lr", "betas", "weight_decay", "fused"}),
        ("PARAM_SCHEDULERS", "LinearLR", {"start_factor", "begin", "by_epoch"}),
        ("HOOKS", "CheckpointHook", {"interval", "save_best", "max_keep_ckpts"}),
        ("HOOKS", "EMAHook", {"begin_iter", "momentum", "update_buffers"}),
        ("LOOPS", "EpochBasedTrainLoop", {"max_epochs", "val_interval"}),
        ("DATASETS", "CocoDataset", {"ann_file", "data_root", "pipeline"}),
        ("TRANSFORMS", "RandomApply", {"transforms", "prob"}),
        ("METRICS", "CocoMetric", {"metric", "prefix"}),
        ("MODELS", "FCNHead", {"channels", "dropout"}),
        ("WEIGHT_INITIALIZERS", "Pretrained", {"checkpoint"}),
    ],
)
def test_what_a_config_names_is_found_with_its_arguments(registry, name, some):
    arguments, takes_any = keyword_arguments(find(registry, name))
    assert some <= arguments and not takes_any


def test_everything_registered_has_known_arguments():
    for registry in WORDS:
        for name, kind in registered(registry).items():
            assert find(registry, name) is kind
            assert keyword_arguments(kind)[0] or keyword_arguments(kind) == (frozenset(), False), (registry, name)


def test_names_with_a_scope_paths_and_classes_themselves():
    assert find("HOOKS", "mmengine.LoggerHook") is find("HOOKS", "LoggerHook")
    assert find("MODELS", "densevit.PVT") is find("MODELS", "PVT")
    assert find("MODELS", "torchvision.models.resnet18") is torchvision.models.resnet18
    assert find("MODELS", Keeps) is Keeps
    for nothing in ("densevit.Nothing", "Nothing", "no_such_package.SceneObject", 3, "antigravity"):
        assert find("MODELS", nothing) is None

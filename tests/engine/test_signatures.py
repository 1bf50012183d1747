"""What is read off the sources is what inspect finds in the live classes."""

import inspect

import mmengine.registry as registries
import pytest

from densevit.engine.signatures import names, signature

CASES = [
    ("OPTIMIZERS", ["AdamW", "SGD", "Adam", "RMSprop"]),
    ("PARAM_SCHEDULERS", ["LinearLR", "MultiStepLR", "CosineAnnealingLR", "PolyLR", "ConstantLR"]),
    ("HOOKS", ["LoggerHook", "CheckpointHook", "RuntimeInfoHook", "EarlyStoppingHook", "ParamSchedulerHook"]),
    ("LOOPS", ["EpochBasedTrainLoop", "IterBasedTrainLoop", "ValLoop", "TestLoop"]),
    ("OPTIM_WRAPPERS", ["OptimWrapper", "AmpOptimWrapper", "Bf16OptimWrapper"]),
    ("DATA_SAMPLERS", ["DefaultSampler", "InfiniteSampler", "TrainSampler", "EvalSampler"]),
    ("VISUALIZERS", ["Visualizer"]),
    ("VISBACKENDS", ["LocalVisBackend", "TensorboardVisBackend"]),
    ("DATASETS", ["ConcatDataset", "RepeatDataset", "CocoDataset"]),
    ("METRICS", ["DumpResults", "CocoMetric", "SemanticMetric", "DepthMetric"]),
    ("LOG_PROCESSORS", ["LogProcessor"]),
    ("TRANSFORMS", ["LoadImage", "PackSample", "Compose", "RandomApply"]),
    ("MODELS", ["DensePredictor", "PVT", "PVTv2", "FPN", "RetinaNetHead", "ExponentialMovingAverage"]),
    ("WEIGHT_INITIALIZERS", ["Pretrained", "Xavier"]),
]


def live_arguments(kind) -> set[str]:
    """Keyword arguments of a class, through **kwargs up its bases."""
    found: set[str] = set()
    for step in [c.__init__ for c in inspect.getmro(kind) if "__init__" in vars(c)]:
        parameters = inspect.signature(step).parameters.values()
        found |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found - {"self"}


@pytest.mark.parametrize(("registry", "kind"), [(registry, kind) for registry, kinds in CASES for kind in kinds])
def test_the_static_arguments_are_the_live_ones(registry, kind):
    import densevit.engine.runner  # noqa: F401  (registers the engine's parts)
    import densevit.registry as ours

    found = signature(registry, kind)
    branch = getattr(ours if hasattr(ours, registry) else registries, registry)  # an empty registry is false
    live = branch.get(kind)
    assert found is not None and live is not None
    assert not found.open
    assert found.arguments == live_arguments(live)


def test_everything_registered_has_a_signature():
    for registry in ("MODELS", "DATASETS", "TRANSFORMS", "METRICS", "HOOKS", "LOOPS", "DATA_SAMPLERS"):
        known = names(registry)
        assert known
        for name in known:
            assert signature(registry, name) is not None, (registry, name)


def test_classes_and_paths_in_place_of_names():
    class Mine:
        def __init__(self, width, **rest):
            pass

    assert signature("MODELS", Mine).open
    assert signature("MODELS", "torchvision.models.resnet18").open
    assert signature("HOOKS", "mmengine.LoggerHook").arguments == signature("HOOKS", "LoggerHook").arguments
    assert signature("HOOKS", "densevit.Nothing") is None

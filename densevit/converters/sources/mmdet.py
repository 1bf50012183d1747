"""mmdetection: checkpoints with their configuration as Python text, and detectors put together of parts."""

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.architectures import rcnn_mmdet, retinanet
from densevit.converters.config_spec import ConfigReader, Only, maps_of, translate_part, whole_model
from densevit.converters.openmmlab import PREPROCESSOR
from densevit.converters.source import (
    SEGMENTATION_SIZE,
    EmbeddedConfig,
    Source,
    prefixes,
)  # fmt: skip
from densevit.errors import CheckpointError, ConfigError

PADDED = PREPROCESSOR.but(
    keys={"pad_size_divisor": ("size_divisor", 1)}, fixed={"pad_value": Only(0, [0.0])},
    ignored="pad_mask mask_pad_value pad_seg seg_pad_value boxtype2tensor",
    accepts="None DetDataPreprocessor BaseDataPreprocessor",
)  # fmt: skip


def open_file(files: CheckpointFiles) -> EmbeddedConfig | None:
    """The configuration text of OpenMMLab's files, old and new, and of densevit's own."""
    meta = {} if files.path.is_dir() or files.config is not None else files.content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text, where = meta.get("cfg", meta.get("config")), str(files.path)
    if not isinstance(text, str):
        return None
    saved = ConfigText(text, where)
    if "model" not in saved:
        raise CheckpointError(f"the configuration saved in {where} has no model.")
    config = saved["model"]
    if not isinstance(config, Mapping):
        raise CheckpointError(f"the configuration saved in {where} has {config!r} as its model.")
    config, source, steps = dict(config), "mmseg" if "decode_head" in config else "mmdet", _test_steps(saved)
    if config.get("type") == "DensePredictor":
        source = "densevit"
    elif "data_preprocessor" not in config:
        config |= _normalizing_steps(steps, source)
    names = ("CLASSES", "classes", "PALETTE", "palette")
    dataset = meta.get("dataset_meta") or {key: meta[key] for key in names if key in meta}
    size = _test_size(steps)
    if size is None and source == "mmseg":
        size = () if steps else SEGMENTATION_SIZE
    return EmbeddedConfig(source, config, where, dict(dataset), size)


def _normalizing_steps(steps: list[Mapping[str, Any]], source: str) -> dict[str, Any]:
    """Older OpenMMLab normalizes and pads within the test pipeline; newer in the model's data_preprocessor."""
    by_type = {step.get("type"): step for step in steps}
    normal, divisor = by_type.get("Normalize"), by_type.get("Pad", {}).get("size_divisor", 1)
    if normal is None:
        return {}
    padding = {"type": "DetDataPreprocessor", "pad_size_divisor": divisor}
    if source == "mmseg":
        padding = {"type": "SegDataPreProcessor", "test_cfg": {"size_divisor": divisor}}
    normal = {key: normal[key] for key in ("mean", "std")} | {"bgr_to_rgb": normal.get("to_rgb", True)}
    return {"data_preprocessor": {**padding, **normal}}


def _test_steps(saved: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The transforms of the test pipeline, those inside MultiScaleFlipAug too; [] where the text has none."""
    try:
        steps = saved.get("test_pipeline") or []
        if not steps and "test_dataloader" in saved:
            steps = saved["test_dataloader"]["dataset"]["pipeline"]
        if not steps and "data" in saved:
            steps = saved["data"]["test"]["pipeline"]
        return [inner for step in steps for inner in (step, *step.get("transforms", ()))]
    except (CheckpointError, KeyError, TypeError, AttributeError):  # written in a way that is not plain data
        return []


def _test_size(steps: list[Mapping[str, Any]]) -> tuple[int, int] | None:
    for step in steps:
        scale = step.get("img_scale") or (step.get("type") == "Resize" and step.get("scale"))
        if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(side, int) for side in scale):
            return tuple(scale)
    return None


def one_stage(model: ConfigReader) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """RetinaNet's head, of the detector's bbox_head, train_cfg and test_cfg; see `rcnn_mmdet.from_mmdet`."""
    head = model.part("bbox_head")
    train, test = (model.optional(key) or head.optional(key) for key in ("train_cfg", "test_cfg"))
    head.ignore("train_cfg", "test_cfg")
    config = retinanet.HEAD(head)
    config |= {} if train is None else {"assign": retinanet.TRAIN(train)}
    config |= {} if test is None else {"test": retinanet.TEST_CONFIG(test)}
    return config, config.pop("in_channels"), config.pop("in_strides")


DETECTORS: dict[str, Callable[[ConfigReader], tuple[dict, int, tuple[int, ...]]]] = {
    "RetinaNet": one_stage, "MaskRCNN": rcnn_mmdet.from_mmdet, "CascadeRCNN": rcnn_mmdet.from_mmdet,
}  # fmt: skip
"""mmdetection's type -> what makes our head, the channels it is for and the strides of its anchors."""


def detector(source: str, model: ConfigReader) -> dict[str, Any]:
    """A detector around a backbone of `source`'s or its own."""
    backbone, neck = (translate_part(source, model.part(key)) for key in ("backbone", "neck"))
    head, width, stated_strides = DETECTORS[model.type](model)
    preprocessor = PADDED(model.part("data_preprocessor", {}))
    model.ignore("init_cfg", "pretrained")
    model.finish()
    if width != neck["out_channels"]:
        raise ConfigError(f"model's head has in_channels {width}, but the neck gives {neck['out_channels']}.")
    channels, strides = maps_of(backbone)
    if (stated := neck.pop("in_channels")) != channels:
        raise ConfigError(f"model.neck.in_channels are {stated}, but the backbone gives {channels}.")
    levels = neck["num_levels"]
    if len(stated_strides) != levels:
        raise ConfigError(f"model's head has anchors for {len(stated_strides)} maps, but the neck gives {levels}.")
    given = list(strides[neck["start_level"] : neck.get("end_level", len(strides) - 1) + 1])
    given = (*given, *(given[-1] * 2 ** (i + 1) for i in range(levels - len(given))))
    if stated_strides != given:
        if "rpn" in head:
            raise ConfigError(f"model.rpn_head has anchors of strides {stated_strides}, but the neck gives {given}.")
        head["anchor_strides"] = stated_strides
    return whole_model(backbone, neck, head, preprocessor)


# ---- the configuration as text -----------------------------------------------------------------------

ARITHMETIC = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip
LARGEST = 100_000
"""Longest list, tuple or string that text may ask for: `[0] * 10**12` is no configuration."""
LONGEST_TEXT, STEPS, DEEPEST = 1 << 20, 500_000, 200
"""Characters of a text, values that are read in it, and values within values."""
LARGEST_NUMBER = 1 << 64
SEQUENCES = (list, tuple, str)


class ConfigText(Mapping):
    """The top-level names of a configuration text, read as data and never run; a name is read when it is asked for.

    Only what a written-out configuration consists of is understood: literals, lists, tuples, dicts, `dict(...)`, names
    bound earlier, signs and arithmetic of numbers, joined strings and repeated lists. Everything else (a call, an
    attribute, an import) is refused where the model needs it, and not even looked at where it does not. So is a text
    that would take more time or memory than a configuration needs: names that double each other, numbers of thousands
    of digits.

    Args:
        text: the Python source.
        where: what it belongs to, for messages.

    Raises:
        CheckpointError: the text is no Python, or a name that is asked for needs more than data.
    """

    def __init__(self, text: str, where: str):
        self.where, self._nodes, self._open = where, {}, set()
        self._text, self._steps, self._depth = text, 0, 0
        try:
            if len(text) > LONGEST_TEXT:
                raise ValueError(f"{len(text):,} characters are more than a configuration has")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes such as "\\d"
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            raise CheckpointError(f"the configuration saved in {where} is no readable text: {reason}.") from error
        for statement in tree.body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                self._nodes |= {target.id: statement.value for target in targets if isinstance(target, ast.Name)}

    def __getitem__(self, name: str) -> Any:
        node = self._nodes[name]
        if name in self._open:
            raise CheckpointError(f"the configuration saved in {self.where} defines {name!r} by itself.")
        self._open.add(name)
        try:
            return self._value(node)
        finally:
            self._open.discard(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def _refuse(self, node: ast.AST) -> CheckpointError:
        line = getattr(node, "lineno", 0)
        piece = (self._text.splitlines() or [""])[line - 1][getattr(node, "col_offset", 0) :]
        return CheckpointError(
            f"the configuration saved in {self.where} holds {piece[:60]!r} (line {line or '?'}), "
            f"which is more than data: it was not run, and the model cannot be built from it."
        )

    def _value(self, node: ast.AST) -> Any:
        before, self._steps, self._depth = self._steps, self._steps + 1, self._depth + 1
        if self._steps > STEPS or self._depth > DEEPEST:
            raise CheckpointError(
                f"the configuration saved in {self.where} grows beyond {STEPS:,} values or {DEEPEST} within each "
                f"other (line {getattr(node, 'lineno', '?')}): it was not read further."
            )
        value = self._read(node)
        self._depth -= 1
        if isinstance(node, ast.BinOp) and isinstance(value, SEQUENCES):  # of what is repeated, each counts
            self._steps += len(value) * (self._steps - before)
        elif isinstance(value, int) and abs(value) >= LARGEST_NUMBER:
            raise self._refuse(node)
        return value

    def _read(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return value
            case ast.List(elts=items):
                return [self._value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self._value(item) for item in items)
            case ast.Dict():
                return self._dict(node.keys, node.values)
            case ast.Name(id=name) if name in self._nodes:
                return self[name]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                value = self._value(operand)
                if isinstance(value, (int, float)):
                    return -value if isinstance(sign, ast.USub) else value
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                return self._arithmetic(node)
            case ast.Call(func=ast.Name(id="dict"), args=[] | [_]):
                # dict(other, key=value, **more)
                names = [None] * len(node.args) + [word.arg and ast.Constant(word.arg) for word in node.keywords]
                return self._dict(names, [*node.args, *(word.value for word in node.keywords)])
        raise self._refuse(node)

    def _dict(self, keys: list, values: list) -> dict:
        """keys: None for a value that is a dict itself, whose keys are taken."""
        result: dict = {}
        for key, value in zip(keys, values, strict=True):
            content = self._value(value)
            if key is not None:
                name = self._value(key)
                if not isinstance(name, (str, int, float, bool, type(None))):
                    raise self._refuse(key)
                result[name] = content
            elif isinstance(content, Mapping):
                result.update(content)
            else:
                raise self._refuse(value)
        return result

    def _arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self._value(node.left), self._value(node.right)
        numbers = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in (left, right)]
        if not all(numbers):
            items, times = (right, left) if numbers[0] else (left, right)
            repeated = isinstance(node.op, ast.Mult) and isinstance(items, SEQUENCES) and isinstance(times, int)
            repeated = repeated and any(numbers) and times * max(len(items), 1) <= LARGEST
            joined = isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, SEQUENCES)
            if not (repeated or joined):
                raise self._refuse(node)
        try:
            return ARITHMETIC[type(node.op)](left, right)
        except (ArithmeticError, ValueError) as error:
            raise self._refuse(node) from error


PREFIXES = prefixes("backbone.->backbone. neck.->neck. bbox_head.->head. |rpn_head.->head. |roi_head.->head.")
MODELS = dict.fromkeys(DETECTORS, detector)
SOURCE = Source(PREFIXES, MODELS, open_file)

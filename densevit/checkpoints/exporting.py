"""Export: an imported model as a densevit config and safetensors, so that every tool can use it; a trained model as
safetensors at half the size."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import densevit
from densevit.checkpoints.reading import META, read_file, state_of
from densevit.checkpoints.writing import atomic_write
from densevit.errors import CheckpointError, ConfigError, printable
from densevit.outputs import files_of, require_file

BASES = ("coco_detection", "schedule_1x", "runtime")
MAP_BASES = {
    "pred_semantic": ("ade20k", "schedule_160k", "runtime"),
    "pred_depth": ("nyu", "schedule_depth", "runtime"),
}
"""What the recipe of an imported detector builds on, and of a model of maps by what it predicts."""
WRITTEN = "# Imported from"
"""How the recipe of an imported model begins."""
NAMES = ("classes", "semantic_classes", "palette", "cat_ids")
"""What of a dataset's description goes with the weights; the rest (paths) belongs to the location of the training."""


def export_weights(checkpoint: str | os.PathLike, out: str | os.PathLike, recipe: str | None = None) -> Path:
    """Write the weights of a training's checkpoint as float16 safetensors, with the names of the classes.

    Where the training keeps averaged weights (ema) those are written: they are what it evaluates, and what its
    checkpoints hold under `state_dict`. `load_weights`, `Predictor` and the tools read the file like a checkpoint, into
    a model of float32.

    Args:
        checkpoint: a `.pth` of densevit.
        out: the `.safetensors` to write; its folder is made.
        recipe: name of the config that the weights belong to; None: what the checkpoint says of its run.

    Returns:
        The file's path.

    Raises:
        CheckpointError: the checkpoint cannot be read, a number is beyond float16, or `out` has another ending.
        ConfigError: `out` cannot be written, or is the checkpoint.
    """
    path = Path(out).expanduser()
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{out} does not end in .safetensors, which is what is written; name it so.")
    require_file(path, "the output", files_of(checkpoint))
    content = read_file(checkpoint)
    state = {}
    for name, value in state_of(content, str(checkpoint)).items():
        state[name] = value.half() if value.is_floating_point() else value.clone()
        if not torch.isfinite(state[name]).all():
            raise CheckpointError(
                f"{checkpoint}: {name} holds numbers that are not finite in float16 (the largest is 65504); these "
                f"weights cannot be halved."
            )
    stored = content.get("meta") if isinstance(content.get("meta"), Mapping) else {}
    dataset = stored.get("dataset_meta") or {}
    meta = {"dataset_meta": {key: list(dataset[key]) for key in NAMES if dataset.get(key) is not None}}
    meta |= {"densevit_version": densevit.__version__, "recipe": recipe or stored.get("experiment_name")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(state, path, {META: json.dumps(meta)})
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def write_imported(
    imported: Any, source_file: str, out: str | os.PathLike, configs: Path, render: Callable[[dict], str]
) -> tuple[Path, Path]:
    """Write `<name>.py` and `<name>.safetensors` of what `import_model` gave.

    Args:
        imported: what `import_model` gave, a whole model.
        source_file: the checkpoint that it came from; its name is the recipe's.
        out: the folder to write into.
        configs: the folder of the shipped recipes, whose `_base_` the config builds on.
        render: makes a config's Python text of a dict.

    Returns:
        The config's path and the weights' path.

    Raises:
        CheckpointError: the model is a part, for which there is no recipe.
        ConfigError: the files cannot be written, or would be over the checkpoint or another config.
    """
    settings = plain(imported.config)
    if settings.get("type") != "DensePredictor":
        raise CheckpointError(f"{source_file} holds a {settings.get('type')} alone, and a recipe is a whole model.")
    if imported.classes:
        settings["classes"] = list(imported.classes)
    folder, name = Path(out), re.sub(r"\W", "_", Path(source_file).stem)
    weights, config = folder / f"{name}.safetensors", folder / f"{name}.py"
    for path in (weights, config):
        require_file(path, "--out: the file", files_of(source_file))
    if config.is_file() and not config.read_text(errors="replace").startswith(WRITTEN):
        raise ConfigError(
            f"{config} is there already, and is none that was written by an import; choose another --out."
        )
    base = Path("_base_") if folder.resolve() == configs.resolve() else configs.resolve() / "_base_"
    folder.mkdir(parents=True, exist_ok=True)
    _save(imported.model.state_dict(), weights, {})

    of_maps = MAP_BASES.get(getattr(imported.model.head, "pred_key", None))
    bases = [str(base / f"{part}.py") for part in of_maps or BASES]
    recipe: dict[str, Any] = {"_base_": bases, "model": settings}
    if imported.test_size is not None:
        scale = imported.test_size
        arguments = scale if isinstance(scale, Mapping) else {"scale": scale, "keep_ratio": True}
        resize = [{"type": "Resize", **plain(arguments)}] if scale else []
        ground_truth = [{"type": "LoadAnnotations"}]  # of pixels it keeps its own size
        steps = [
            {"type": "LoadImage"},
            *(resize + ground_truth if of_maps else ground_truth + resize),
            {"type": "PackSample"},
        ]
        recipe |= {f"{kind}_dataloader": {"dataset": {"pipeline": steps}} for kind in ("val", "test")}
    origin = printable(Path(source_file).name)  # a line break in it would end the comment
    text = f"{WRITTEN} {origin} ({printable(imported.load_report.scheme)}) by tools/import_checkpoint.py\n"
    with atomic_write(config) as partial:
        partial.write_text(text + render(recipe), encoding="utf-8")
    return config, weights


def _save(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write safetensors. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_write(path) as partial:
            save_file({k: v.contiguous() for k, v in state.items()}, partial, metadata={"format": "pt", **metadata})
            os.chmod(partial, 0o644)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def plain(value: Any) -> Any:
    """Dicts, lists and plain values: tuples become lists, as they come back from a config file."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, Sequence) and not isinstance(value, str) else value

"""Writes an imported model as a config of ours and safetensors, so that every tool can use it."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from densevit.errors import CheckpointError

BASES = ("coco_detection", "schedule_1x", "runtime")


def write_imported(
    model: nn.Module, source_file: str, out: str | os.PathLike, configs: Path, render: Callable[[dict], str]
) -> tuple[Path, Path]:
    """Write `<name>.py` and `<name>.safetensors` of what `import_model` gave.

    Args:
        model: an imported detector.
        source_file: the checkpoint that it came from; its name is the recipe's.
        out: the folder to write into.
        configs: the folder of the shipped recipes, whose `_base_` the config builds on.
        render: makes a config's Python text of a dict.

    Returns:
        The config's path and the weights' path.

    Raises:
        CheckpointError: the model is a part, for which there is no recipe.
    """
    from safetensors.torch import save_file

    settings = plain(model.imported_config)
    if settings.get("type") != "DensePredictor":
        raise CheckpointError(f"{source_file} holds a {settings.get('type')} alone, and a recipe is a whole model.")
    if model.classes:
        settings["classes"] = list(model.classes)
    folder, name = Path(out), Path(source_file).stem.replace(".", "_").replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    base = Path("_base_") if folder.resolve() == configs.resolve() else configs.resolve() / "_base_"
    weights = folder / f"{name}.safetensors"
    partial = folder / f".{name}.{os.getpid()}.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, partial, metadata={"format": "pt"})
    os.replace(partial, weights)

    recipe: dict[str, Any] = {"_base_": [str(base / f"{part}.py") for part in BASES], "model": settings}
    if model.test_scale is not None:
        steps = [
            {"type": "LoadImage"},
            {"type": "LoadAnnotations"},
            {"type": "Resize", "scale": list(model.test_scale), "keep_ratio": True},
            {"type": "PackSample"},
        ]
        recipe |= {f"{kind}_dataloader": {"dataset": {"pipeline": steps}} for kind in ("val", "test")}
    text = f"# Imported from {Path(source_file).name} ({model.receipt.scheme}) by tools/import_checkpoint.py\n"
    config = folder / f"{name}.py"
    config.write_text(text + render(recipe))
    return config, weights


def plain(value: Any) -> Any:
    """Dicts, lists and plain values: tuples become lists, as they come back from a config file."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, Sequence) and not isinstance(value, str) else value

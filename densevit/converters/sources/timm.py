"""timm: a folder with config.json beside the weights, whose `architecture` names the model."""

from densevit.checkpoints.embedded_config import CheckpointFiles, EmbeddedConfig, read_json
from densevit.converters.source import Source


def open_folder(files: CheckpointFiles) -> EmbeddedConfig | None:
    """config.json of a folder that is none of the other sources'."""
    path = files.beside("config.json") if files.path.is_dir() else None
    return None if path is None else EmbeddedConfig("timm", read_json(path), str(path))


SOURCE = Source(open=open_folder, type_key="architecture")

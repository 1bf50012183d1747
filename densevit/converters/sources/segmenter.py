"""rstrudel/segmenter: a folder with variant.yml beside checkpoint.pth."""

from typing import Any

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.architectures import segmenter, vit_configs
from densevit.converters.config_spec import ConfigReader, whole_model
from densevit.converters.source import (
    SEGMENTATION_SIZE,
    EmbeddedConfig,
    Source,
    prefixes,
)  # fmt: skip
from densevit.errors import CheckpointError, ConfigError
from densevit.plain_data import parse_yaml, read_text

NORMALIZATION = {
    "vit": {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)},
    "deit": {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
}


def open_folder(files: CheckpointFiles) -> EmbeddedConfig | None:
    """variant.yml."""
    path = files.beside("variant.yml") if files.path.is_dir() else None
    if path is None:
        return None
    try:
        config = parse_yaml(read_text(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is not YAML: {error}.") from error
    if not isinstance(config, dict) or "net_kwargs" not in config:
        raise CheckpointError(f"{path} has no network (no net_kwargs).")
    kept = {key: config[key] for key in ("net_kwargs", "inference_kwargs") if key in config}
    short = (config.get("inference_kwargs") or {}).get("im_size")
    size = (4 * short, short) if isinstance(short, int) else SEGMENTATION_SIZE
    return EmbeddedConfig("segmenter", kept, str(path), {}, size)


def encoder_and_decoder(source: str, model: ConfigReader) -> dict[str, Any]:
    """variant.yml, or its `net_kwargs` alone. Windows are where the file has their stride: `inference_kwargs`."""
    net = model.part("net_kwargs") if "net_kwargs" in model.remaining else model
    sliding = model.optional("inference_kwargs")
    decoder, classes, name = net.part("decoder"), net.pop("n_cls"), net.pop("normalization", "vit")
    if name not in NORMALIZATION:
        raise ConfigError(f"{net.where}.normalization is {name!r}; densevit has {', '.join(NORMALIZATION)} there.")
    head = segmenter.of_repository(decoder, net.remaining.get("d_model", 0), classes)
    patch = net.remaining.get("patch_size", 16)
    backbone = vit_configs.SEGMENTER(net)
    prepared = {**NORMALIZATION[name], "size_divisor": patch}
    if sliding is None:
        return whole_model(backbone, None, head, prepared)
    window, stride = sliding.pop("window_size"), sliding.pop("window_stride")
    sliding.ignore("im_size")
    sliding.finish()
    prepared["size_divisor"] = 1  # each window is complete
    windows = {"type": "SlidingWindow", "window": window, "stride": stride}
    return whole_model(backbone, None, head, prepared, inference=windows)


SOURCE = Source(
    prefixes("encoder.->backbone. decoder.->head."), {"*": encoder_and_decoder}, open_folder, names=("rstrudel",)
)

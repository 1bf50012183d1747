"""detectron2: lazy configurations beside the weights (`config.yaml`), and detectors put together around a pyramid."""

from typing import Any

from densevit.checkpoints.embedded_config import CheckpointFiles, EmbeddedConfig
from densevit.checkpoints.lazy_config import read_lazy_config, size_of_test_images
from densevit.converters.architectures import fpn, maps_of, rcnn_detectron2, simple_feature_pyramid, translate_part
from densevit.converters.config_spec import ConfigReader, UnsupportedModelError
from densevit.converters.source import Prefix, Source
from densevit.errors import ConfigError

PYRAMIDS = {"FPN": "bottom_up", "SimpleFeaturePyramid": "net"}
"""Its pyramids -> under which key they have the backbone."""


def generalized_rcnn(source: str, model: ConfigReader) -> dict[str, Any]:
    """GeneralizedRCNN around a pyramid."""
    backbone, neck, square = _pyramid(model.part("backbone"))
    head, width, stated = rcnn_detectron2.from_detectron2(model)
    mean, std, order = model.pop("pixel_mean"), model.pop("pixel_std"), model.pop("input_format", "BGR")
    model.ignore("vis_period")
    model.finish()
    channels, given = maps_of(backbone, neck)
    if width != channels[0]:
        raise ConfigError(f"model.proposal_generator takes {width} channels, but the pyramid gives {channels[0]}.")
    if stated != given:
        raise ConfigError(f"model.proposal_generator has anchors of strides {stated}, but the pyramid gives {given}.")
    preprocessor = {"type": "Preprocessor", "mean": tuple(mean), "std": tuple(std), "bgr_to_rgb": order == "RGB"}
    if neck["type"] == "FPN":
        preprocessor["size_divisor"] = max(given[:-1])
    else:
        preprocessor |= {"size_divisor": backbone["patch_size"], "square_pad": square}
    return {
        "type": "DensePredictor",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "neck": neck,
        "head": head,
    }


def _pyramid(reader: ConfigReader) -> tuple[dict[str, Any], dict[str, Any], int]:
    """FPN or SimpleFeaturePyramid: our backbone, our neck, and the side that batches are padded to."""
    if reader.type not in PYRAMIDS:
        raise UnsupportedModelError(
            f"{reader.where}._target_ is {reader.type!r} of detectron2, which densevit has no counterpart of."
        )
    backbone = translate_part("detectron2", reader.part(PYRAMIDS[reader.type]))
    if reader.type == "FPN":
        return backbone, fpn.DETECTRON2(reader), 0
    return backbone, *simple_feature_pyramid.PYRAMID(reader)


def pyramid_alone(source: str, reader: ConfigReader) -> dict[str, Any]:
    """A pyramid without a detector: a model without heads, whose `extract_features` gives the maps."""
    backbone, neck, _ = _pyramid(reader)
    return {"type": "DensePredictor", "backbone": backbone, "neck": neck, "head": {}}


def open_file(files: CheckpointFiles) -> EmbeddedConfig | None:
    """The lazy configuration that the user gives, or that lies beside a file."""
    path = files.config
    if path is None:
        path = None if files.path.is_dir() else files.beside("config.yaml")
        if path is None or "_target_" not in path.read_text(errors="replace"):
            return None
    whole = read_lazy_config(path)
    return EmbeddedConfig("detectron2", whole, str(path), {}, size_of_test_images(whole))


SOURCE = Source(
    prefixes=(
        Prefix("backbone.bottom_up.", "backbone."), Prefix("backbone.fpn_", "neck.", "fpn_"),
        Prefix("backbone.net.", "backbone."), Prefix("backbone.simfp_", "neck.", "simfp_"),
        *(Prefix(name, "backbone.") for name in ("bottom_up.", "net.")),  # of a pyramid alone
        *(Prefix(name, "neck.", name) for name in ("fpn_", "simfp_")),
        Prefix("proposal_generator.", "head.", "proposal_generator."), Prefix("roi_heads.", "head.", "roi_heads."),
    ),
    models={"GeneralizedRCNN": generalized_rcnn, **dict.fromkeys(PYRAMIDS, pyramid_alone)}, open=open_file,
)  # fmt: skip

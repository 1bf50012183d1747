"""DPT's reassembling of tokens to maps: isl-org, Depth-Anything, mmsegmentation and transformers."""

from densevit.converters.architecture import Architecture
from densevit.converters.architectures.pvt import to_convolution, to_linear
from densevit.converters.key_mapping import KeyRule, same


def _readout(theirs: str) -> list[KeyRule]:
    """The layer that mixes the class token's channels in."""
    ours = "readout_projects.{}.0"
    return [
        KeyRule(f"{theirs}.weight", f"{ours}.weight", to_convolution, to_linear),
        KeyRule(f"{theirs}.bias", f"{ours}.bias"),
    ]


ARCHITECTURE = Architecture(
    "DPTReassemble",
    keys={
        "dpt": [
            *_readout("act_postprocess{+1}.0.project.0"), KeyRule("act_postprocess{+1}.3.*", "projects.{}.*"),
            KeyRule("act_postprocess{+1}.4.*", "resize_layers.{}.*"),
        ],
        "depth_anything": [*_readout("readout_projects.{}.0"), *same("projects.{}.*", "resize_layers.{}.*")],
        "mmseg": [
            *_readout("readout_projects.{}.0"), KeyRule("projects.{}.conv.*", "projects.{}.*"),
            *same("resize_layers.{}.*"),
        ],
        "transformers": [
            *_readout("readout_projects.{}.0"), KeyRule("layers.{}.projection.*", "projects.{}.*"),
            KeyRule("layers.{}.resize.*", "resize_layers.{}.*"),
        ],
    },
)  # fmt: skip

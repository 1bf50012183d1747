"""DPT and Depth-Anything: the names of isl-org, Depth-Anything, mmsegmentation and transformers.

The repositories count four levels, the finest first; our fusion blocks, as the other two's, begin with the coarsest.
What no project's forward uses is known and left out: the first unit of the coarsest block, auxiliary classifiers.
"""

from densevit.checkpoints.conv_names import conv_blocks
from densevit.checkpoints.pvt import to_convolution, to_linear
from densevit.checkpoints.rules import Rule

LEVELS = 4
"""Of the two repositories."""


def _readout(theirs: str) -> list[Rule]:
    """The layer that mixes the class token's channels in."""
    return [
        Rule(f"{theirs}.weight", "readout_projects.{}.0.weight", to_convolution, to_linear),
        Rule(f"{theirs}.bias", "readout_projects.{}.0.bias"),
    ]


REASSEMBLE = {
    "isl-org": [
        *_readout("act_postprocess{+1}.0.project.0"),
        Rule("act_postprocess{+1}.3.*", "projects.{}.*"),
        Rule("act_postprocess{+1}.4.*", "resize_layers.{}.*"),
    ],
    "depth-anything": [
        *_readout("readout_projects.{}.0"),
        Rule("projects.{}.*", "projects.{}.*"),
        Rule("resize_layers.{}.*", "resize_layers.{}.*"),
    ],
    "mmseg": [
        *_readout("readout_projects.{}.0"),
        Rule("projects.{}.conv.*", "projects.{}.*"),
        Rule("resize_layers.{}.*", "resize_layers.{}.*"),
    ],
    "transformers": [
        *_readout("readout_projects.{}.0"),
        Rule("layers.{}.projection.*", "projects.{}.*"),
        Rule("layers.{}.resize.*", "resize_layers.{}.*"),
    ],
}

_REPOSITORIES = [
    Rule("layer{+1}_rn.weight", "lateral_convs.{}.weight"),
    Rule(f"refinenet{LEVELS}.resConfUnit1.*", None),
    *(
        Rule(f"refinenet{LEVELS - place}.{theirs}.*", f"blocks.{place}.{ours}.*")
        for place in range(LEVELS)
        for theirs, ours in (
            ("resConfUnit{}.conv{}", "unit{}.conv{}"),
            ("resConfUnit{}.bn{}", "unit{}.norm{}"),
            ("out_conv", "out_conv"),
        )
    ),
]
FUSION = {
    "isl-org": _REPOSITORIES,
    "depth-anything": _REPOSITORIES,
    "mmseg": [
        Rule("convs.{}.conv.weight", "lateral_convs.{}.weight"),
        Rule("fusion_blocks.{}.res_conv_unit{}.conv{}.conv.*", "blocks.{}.unit{}.conv{}.*"),
        Rule("fusion_blocks.{}.res_conv_unit{}.conv{}.bn.*", "blocks.{}.unit{}.norm{}.*"),
        Rule("fusion_blocks.{}.project.conv.*", "blocks.{}.out_conv.*"),
    ],
    "transformers": [
        Rule("convs.{}.weight", "lateral_convs.{}.weight"),
        Rule("fusion_stage.layers.0.residual_layer1.*", None),
        Rule("fusion_stage.layers.{}.residual_layer{}.convolution{}.*", "blocks.{}.unit{}.conv{}.*"),
        Rule("fusion_stage.layers.{}.residual_layer{}.batch_norm{}.*", "blocks.{}.unit{}.norm{}.*"),
        Rule("fusion_stage.layers.{}.projection.*", "blocks.{}.out_conv.*"),
    ],
}


def _sequence(theirs: str) -> list[Rule]:
    """isl-org's classifier, whose layers are counted."""
    return [
        Rule(f"{theirs}.0.*", "project.conv.*"),
        Rule(f"{theirs}.1.*", "project.norm.*"),
        Rule(f"{theirs}.4.*", "classify.*"),
    ]


CLASSES = {
    "isl-org": [*_sequence("output_conv"), Rule("auxlayer.*", None)],
    "mmseg": [*conv_blocks("mmseg", "project", "project"), Rule("conv_seg.*", "classify.*")],
    "transformers": [*_sequence("head"), Rule("auxiliary_head.*", None)],
}
DEPTH = {
    "isl-org": [
        Rule("output_conv.0.*", "conv1.*"),
        Rule("output_conv.2.*", "conv2.*"),
        Rule("output_conv.4.*", "measure.*"),
    ],
    "depth-anything": [
        Rule("output_conv1.*", "conv1.*"),
        Rule("output_conv2.0.*", "conv2.*"),
        Rule("output_conv2.2.*", "measure.*"),
    ],
    "transformers": [
        Rule("projection.*", "projection.*"),
        Rule("head.0.*", "conv1.*"),
        Rule("head.2.*", "conv2.*"),
        Rule("head.4.*", "measure.*"),
        *(Rule(f"conv{i}.*", f"{name}.*") for i, name in enumerate(("conv1", "conv2", "measure"), 1)),
    ],
}
TABLES = {"DPTReassemble": REASSEMBLE, "DPTFusion": FUSION, "DPTHead": CLASSES, "DPTDepthHead": DEPTH}
"""Our class -> source -> rules."""

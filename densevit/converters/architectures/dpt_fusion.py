"""DPT's fusion of maps: isl-org, Depth-Anything, mmsegmentation and transformers.

The repositories count four levels, the finest first; our blocks, as the other two's, begin with the coarsest. Its
first unit is in no project's forward, and ignored.
"""

from densevit.converters.architecture import Architecture
from densevit.converters.key_mapping import KeyRule, ignored

LEVELS = 4
"""Of the two repositories."""
REPOSITORIES = [
    KeyRule("layer{+1}_rn.weight", "lateral_convs.{}.weight"),
    *ignored(f"refinenet{LEVELS}.resConfUnit1.*"),
    *(
        KeyRule(f"refinenet{LEVELS - i}.{theirs}.*", f"blocks.{i}.{ours}.*")
        for i in range(LEVELS)
        for theirs, ours in (
            ("resConfUnit{}.conv{}", "unit{}.conv{}"),
            ("resConfUnit{}.bn{}", "unit{}.norm{}"),
            ("out_conv", "out_conv"),
        )
    ),
]
ARCHITECTURE = Architecture(
    "DPTFusion",
    keys={
        "dpt": REPOSITORIES,
        "depth_anything": REPOSITORIES,
        "mmseg": [
            KeyRule("convs.{}.conv.weight", "lateral_convs.{}.weight"),
            KeyRule("fusion_blocks.{}.res_conv_unit{}.conv{}.conv.*", "blocks.{}.unit{}.conv{}.*"),
            KeyRule("fusion_blocks.{}.res_conv_unit{}.conv{}.bn.*", "blocks.{}.unit{}.norm{}.*"),
            KeyRule("fusion_blocks.{}.project.conv.*", "blocks.{}.out_conv.*"),
        ],
        "transformers": [
            KeyRule("convs.{}.weight", "lateral_convs.{}.weight"),
            *ignored("fusion_stage.layers.0.residual_layer1.*"),
            KeyRule("fusion_stage.layers.{}.residual_layer{}.convolution{}.*", "blocks.{}.unit{}.conv{}.*"),
            KeyRule("fusion_stage.layers.{}.residual_layer{}.batch_norm{}.*", "blocks.{}.unit{}.norm{}.*"),
            KeyRule("fusion_stage.layers.{}.projection.*", "blocks.{}.out_conv.*"),
        ],
    },
)

"""Which backbones, necks and heads go together: the data of the matrix's test and of its page in docs.

`python tests/matrix.py` writes docs/matrix.md. A new part is in the matrix by its line in tiny.py and, where it is a
neck, a chain here.
"""

from pathlib import Path

import tiny

PAGE = Path(__file__).parents[1] / "docs" / "matrix.md"

PLAIN = {
    "ViT": dict(tiny.BACKBONES["ViT"][1], type="ViT", patch_size=16),
    "TimmBackbone (plain)": dict(type="TimmBackbone", **tiny.BACKBONES["TimmBackbone"][1]),
}
"""Backbones whose four maps have one stride."""
PYRAMIDS = {
    **{
        name: dict(type=name, **tiny.BACKBONES[name][0])
        for name in tiny.BACKBONES
        if name not in ("ViT", "TimmBackbone")
    },
    "TimmBackbone (pyramid)": dict(type="TimmBackbone", **tiny.BACKBONES["TimmBackbone"][0]),
}
"""Backbones whose maps have the strides 4 to 32."""

_FPN = dict(type="FPN", out_channels=8, num_levels=5)
_UPERNET = dict(type="UPerNet", channels=8, pool_scales=(1, 2))
_LEVELS = dict(type="MultiLevelNeck", channels=8, scales=(4, 2, 1, 0.5))
_REASSEMBLE = dict(type="DPTReassemble", channels=(4, 8, 16, 16))
_FUSION = dict(type="DPTFusion", channels=8)
ON_PYRAMIDS = {
    "none": ([], "unequal"),
    "FPN": ([_FPN], "several"),
    "UPerNet": ([_UPERNET], "one"),
    "DPTFusion": ([_FUSION], "one"),
}
"""Chain of necks behind a pyramid -> configurations, and what it gives: one map, several of rising strides, of equal
channels or not."""
ON_PLAIN = {
    "none": ([], "one"),
    "SimpleFeaturePyramid": ([dict(type="SimpleFeaturePyramid", channels=8)], "several"),
    "Feature2Pyramid": ([dict(type="Feature2Pyramid")], "several"),
    "MultiLevelNeck": ([_LEVELS], "several"),
    "MultiLevelNeck, FPN": ([_LEVELS, _FPN], "several"),
    "MultiLevelNeck, UPerNet": ([_LEVELS, _UPERNET], "one"),
    "MLANeck": ([dict(type="MLANeck", channels=8)], "parallel"),
    "DPTReassemble, DPTFusion": ([_REASSEMBLE, _FUSION], "one"),
}
"""The same behind maps of one stride; 'parallel': several of one stride."""
LAST_MAP_ALONE = ("none", "SimpleFeaturePyramid")
"""Chains that are built on the last map of a plain backbone."""

NEED_EQUAL = ("RetinaNetHead", "MaskRCNNHead", "CascadeRCNNHead")
"""Those of NEED_SEVERAL that need maps of equal channels."""
NEED_SEVERAL = ("RetinaNetHead", "MaskRCNNHead", "CascadeRCNNHead", "SemanticFPNHead", "FPNDepthHead")
"""Heads on maps of several strides; all others look at one map."""
NOT_GIVEN = ("in_channels", "in_strides", "num_classes")


def head(name: str, parallel: bool) -> dict:
    """The tiny configuration of a head, without what flows to it; of SETR the one for parallel maps where they are."""
    index = next(i for i, c in enumerate(tiny.HEADS[name]) if not parallel or c.get("decoder") == "mla")
    config = {key: value for key, value in tiny.HEADS[name][index].items() if key not in NOT_GIVEN}
    return dict(config, type=name) if parallel or name in NEED_SEVERAL else dict(config, type=name, in_index=0)


def fitting(kind: str, backbone: str) -> tuple[str, ...]:
    """The heads that fit behind maps of this kind."""
    if kind == "parallel":
        return ("SETRHead",)
    without = NEED_SEVERAL if kind == "one" else ()
    if kind == "unequal" and backbone != "ViTAdapter":  # whose maps have equal channels
        without = NEED_EQUAL
    return tuple(name for name in tiny.HEADS if name not in without)


def rows() -> list[tuple[str, str, dict, list[dict], tuple[str, ...]]]:
    """Backbone, chain, configuration of the backbone and of the necks, the heads that fit: a row of the matrix each."""
    found = []
    for backbones, chains in ((PYRAMIDS, ON_PYRAMIDS), (PLAIN, ON_PLAIN)):
        for name, backbone in backbones.items():
            for chain, (necks, kind) in chains.items():
                config = dict(backbone, out_indices=(3,)) if kind != "unequal" and chain in LAST_MAP_ALONE else backbone
                found.append((name, chain, config, necks, fitting(kind, name)))
    return found


def model(backbone: dict, necks: list[dict], heads: tuple[str, ...]) -> dict:
    """The configuration of one model with all of the heads, by name; images are not padded."""
    return dict(
        type="DensePredictor",
        data_preprocessor=dict(type="Preprocessor", size_divisor=1),
        backbone=backbone,
        neck=necks or None,
        head={name: head(name, heads == ("SETRHead",)) for name in heads},
        classes=("a", "b", "c"),
    )


def page() -> str:
    """docs/matrix.md."""
    lines = [
        "# Which parts work together",
        "",
        "Every backbone with every neck and head that work with it: the tests (`tests/test_matrix.py`) build each",
        "marked combination, train it for a step and predict, on images of 97 x 131 pixels. Detectors need maps of",
        "several strides and equal channels, semantic and depth FPN heads need several strides; the other heads take",
        "one map, selected by `in_index`. `MLANeck` only works with SETR's MLA decoder. Written by",
        "`python tests/matrix.py`.",
        "",
        "| backbone | necks | " + " | ".join(name.removesuffix("Head") for name in tiny.HEADS) + " |",
        "|---|---|" + ":-:|" * len(tiny.HEADS),
    ]
    for name, chain, _, _, heads in rows():
        marks = " | ".join("x" if h in heads else "" for h in tiny.HEADS)
        lines.append(f"| {name} | {chain} | {marks} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())

"""The house has one direction: which part may import which (docs/architecture.md)."""

import ast
import itertools
from pathlib import Path

import densevit

PACKAGE = Path(densevit.__file__).parent
GROUND = {"registry", "structures", "errors", "outputs", "plain_data", "archs"}
CONVERTERS_CORE = {f"converters.{name}" for name in ("key_mapping", "config_spec", "openmmlab")}
PARTS = GROUND | {"ops", "kernels", "models.layers", "models.protocols"}
MAY_IMPORT = {
    "registry": {"errors"},
    "plain_data": set(),
    "errors": set(),
    "structures": set(),
    "outputs": {"errors"},
    "archs": set(),
    "ops": GROUND,
    "kernels": GROUND | {"ops"},
    "models.layers": GROUND | {"ops", "kernels"},
    "models.losses": GROUND | {"ops", "kernels", "models.layers"},
    "models.postprocess": GROUND | {"ops"},
    "models.preprocessor": GROUND | {"ops"},
    "models.protocols": GROUND,
    "models.backbones": PARTS,
    "models.necks": PARTS,
    "models.heads": PARTS | {"models.losses", "models.postprocess"},
    "models.freezing": GROUND,
    "models.dense_predictor": GROUND | {"ops", "kernels", "models.freezing", "models.protocols"},
    "datasets": GROUND | {"ops"},
    "metrics": GROUND | {"ops"},
    "visualization": GROUND | {"ops"},
    "checkpoints": GROUND,
    "converters.key_mapping": set(),
    "converters.config_spec": GROUND | {"converters.key_mapping"},
    "converters.openmmlab": GROUND | {"converters.config_spec", "converters.key_mapping"},
    "converters.architectures": GROUND | CONVERTERS_CORE,
    "converters.source": {"checkpoints", "converters.config_spec"},
    "converters.sources": GROUND | CONVERTERS_CORE | {"checkpoints", "converters.source", "converters.architectures"},
    "converters": GROUND
    | CONVERTERS_CORE
    | {"checkpoints", "converters.source", "converters.architectures", "converters.sources"},
    "engine": GROUND | {"kernels", "checkpoints", "converters"},
    "inference": GROUND
    | {"ops", "checkpoints", "converters", "engine", "datasets", "visualization", "models.protocols"},
}
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["__main__"] = {"cli"}
SIBLINGS_APART = ("models.backbones", "models.necks", "models.heads")
BASES = {
    *(f"models.backbones.{name}" for name in ("pyramid_transformer", "window_transformer")),
    *(f"models.heads.{name}" for name in ("dense_head", "semantic_head", "depth_head", "anchor_head", "roi_part")),
}
"""What siblings have in common, beside them."""
EXCEPTIONS = {
    ("models.backbones.vit_adapter", "models.backbones.vit"),  # which it is made of
    *(
        (f"models.heads.{head}", f"models.heads.{part}")
        for head, part in itertools.product(
            ("rcnn", "mask_rcnn", "cascade_rcnn"), ("rcnn", "rpn", "roi_box", "roi_mask")
        )
    ),  # heads of two stages are put together from parts
}


def room(module: str) -> str:
    """'models.heads.retinanet' -> 'models.heads'."""
    return max((r for r in MAY_IMPORT if module == r or module.startswith(r + ".")), key=len, default=module)


def arrows() -> list[tuple[str, str]]:
    """(importing module, imported module) of every import inside the package, without the prefix densevit."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if module in ("__init__", "models") or path.relative_to(PACKAGE).parts[0] == "configs":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "densevit":
                names = [node.module] if node.module.count(".") else [f"densevit.{a.name}" for a in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names if a.name.startswith("densevit.")]
            found += [(module, name.removeprefix("densevit.")) for name in names]
    return found


def test_every_arrow_points_the_allowed_way():
    wrong = []
    for source, target in arrows():
        here, there = room(source), room(target)
        assert here in MAY_IMPORT, f"{source} lies in no known room: add it to the picture"
        if there not in MAY_IMPORT[here] | {here} and (source, target) not in EXCEPTIONS:
            wrong.append(f"{source} -> {target}")
    assert not wrong, wrong


def test_siblings_do_not_import_each_other():
    wrong = []
    for source, target in arrows():
        here = room(source)
        if (
            here in SIBLINGS_APART
            and room(target) == here
            and source != here
            and target not in BASES | {source}
            and (source, target) not in EXCEPTIONS
        ):
            wrong.append(f"{source} -> {target}")
    assert not wrong, wrong

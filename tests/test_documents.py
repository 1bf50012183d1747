"""What the documents show works as they show it."""

import re

import pytest
import tiny
import torch

import densevit.models  # noqa: F401
from densevit.registry import MODELS

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", *(f"docs/{n}.md" for n in
             ("architecture", "data", "reliability", "training"))]  # fmt: skip


def test_the_backbone_in_20_lines_trains_in_a_detector(root):
    code = re.search(r"```python\n(.*?)```", (root / "docs" / "architecture.md").read_text(), re.DOTALL).group(1)
    try:
        exec(code, {"__name__": "example"})
        config = tiny.model_config() | dict(backbone=dict(type="TinyConvNet", width=4))
        config["neck"] = dict(config["neck"], num_levels=3)
        model = MODELS.build(config)
        assert [x.shape[2] for x in model.backbone(torch.zeros(1, 3, 50, 50))] == [13, 7, 4]
        losses = model(**model.data_preprocessor(tiny.batch(), True), mode="loss")
        assert all(torch.stack(list(v)).isfinite().all() for v in losses.values())
    finally:
        MODELS.module_dict.pop("TinyConvNet", None)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_a_document_names_exist(root, document):
    text = (root / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    missing = [link for link in links if not (root / document).parent.joinpath(link).exists()]
    scripts = set(re.findall(r"\b((?:tools|demo|data|tests)/\w+\.py)\b", text))
    missing += [script for script in scripts if not (root / script).exists()]
    configs = set(re.findall(r"\bconfigs/(\w+\.py)\b", text))
    missing += [name for name in configs if not (root / "configs" / name).exists()]
    assert not missing, missing


def test_every_test_that_the_page_of_reliability_names_exists(root):
    text, known = (root / "docs" / "reliability.md").read_text(), {}
    file = ""
    for span in re.findall(r"`([^`\n]+)`", text):
        named, _, test = span.partition("::")
        if named.endswith(".py") and named.startswith(("test_", "tests/")):
            file = root / (named if "/" in named else f"tests/reliability/{named}")
            assert file.is_file(), span
            known[file] = file.read_text()
        test = test or (span if re.fullmatch(r"test_\w+", span) else "")
        assert not test or f"def {test}(" in known[file], span
    assert len(known) >= 10
    assert [f"| {number} |" in text for number in range(1, 31)] == [True] * 30

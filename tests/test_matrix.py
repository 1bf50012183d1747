"""Every backbone with every neck and head that fit: it is built, learns for a step and predicts at an odd size."""

from collections import Counter

import matrix
import pytest
import tiny
import torch

import densevit.models  # noqa: F401
from densevit.registry import MODELS

SIZE = (97, 131)
ROWS = matrix.rows()


def diagonal() -> list[tuple]:
    """Rows in which every backbone and every chain of necks is, each with one head, for the fast suite."""
    names, pyramids = list(matrix.PLAIN), list(matrix.ON_PYRAMIDS)
    chosen = [(name, pyramids[i % len(pyramids)]) for i, name in enumerate(matrix.PYRAMIDS)]
    chosen += [(names[i % len(names)], chain) for i, chain in enumerate(matrix.ON_PLAIN)]
    found, seen = [], Counter()
    for *row, heads in ROWS:
        if (row[0], row[1]) in chosen:
            head = min(heads, key=lambda h: seen[h])
            seen[head] += 1
            found.append((*row, (head,)))
    return found


DIAGONAL = diagonal()


def cases() -> list:
    whole = [pytest.param(*row, id=f"{row[0]}-{row[1]}", marks=pytest.mark.slow) for row in ROWS]
    return whole + [pytest.param(*row, id=f"{row[0]}-{row[1]}-{row[4][0]}") for row in DIAGONAL]


@pytest.mark.parametrize(("name", "chain", "backbone", "necks", "heads"), cases())
def test_what_fits_trains_a_step_and_predicts_at_an_odd_size(name, chain, backbone, necks, heads):
    torch.manual_seed(0)
    model = MODELS.build(matrix.model(backbone, necks, heads)).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    data = model.data_preprocessor(tiny.batch(SIZE), True)
    assert tuple(data["inputs"].shape[2:]) == SIZE
    losses = model(**data, mode="loss")
    assert {key.split(".")[0] for key in losses} == set(heads)
    values = {key: sum(v) if isinstance(v, (list, tuple)) else v for key, v in losses.items()}
    assert all(value.isfinite() for value in values.values()), values
    sum(values.values()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    maps = (model.neck[-1] if necks else model.backbone).out_strides
    if set().union(*model.in_index.values()) < set(range(len(maps))):  # what makes the maps that nobody looks at
        idle = [n for n in idle if n.startswith("head")]
    assert idle == []
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    for part in ("backbone", *(f"head.{h}" for h in heads), *(["neck"] if necks else [])):
        assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters() if n.startswith(part)), part
    model.eval()
    samples = [tiny.sample(SIZE)]
    with torch.no_grad():
        features = model.extract_features(model.data_preprocessor(tiny.batch(SIZE, 1), False)["inputs"])
        for head_name, head in model.heads():
            (fields,) = head.predict(model.select_features(head_name, features), samples)
            for key, found in fields.items():
                if key == "pred_instances":
                    assert found.bboxes.isfinite().all()
                    assert (found.bboxes <= torch.tensor([131.0, 97.0] * 2)).all()
                else:
                    assert found.shape == SIZE


def test_everything_registered_is_in_the_matrix():
    used = {config["type"] for _, _, backbone, necks, _ in ROWS for config in (backbone, *necks)}
    assert used == set(tiny.BACKBONES) | set(tiny.NECKS)
    assert {h for *_, heads in ROWS for h in heads} == set(tiny.HEADS)


def test_the_fast_suite_sees_every_part():
    assert {row[0] for row in DIAGONAL} == {row[0] for row in ROWS}
    assert {row[1] for row in DIAGONAL} == {row[1] for row in ROWS}
    assert {head for *_, heads in DIAGONAL for head in heads} == set(tiny.HEADS)


def test_the_page_in_docs_is_the_matrix():
    assert matrix.PAGE.read_text() == matrix.page(), "run python tests/matrix.py"

"""Run lengths are recognized as whole or broken without decoding them to pixels."""

import numpy as np
from pycocotools import mask as rle_codec

from densevit.ops.coco_rle import first_broken


def coded(mask: np.ndarray) -> dict:
    rle = rle_codec.encode(np.asfortranarray(mask))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def random_masks(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(count):
        size = rng.integers(1, 90, 2)
        kind = rng.integers(0, 4)
        mask = (rng.random(size) < rng.random()).astype(np.uint8)
        masks.append(coded(mask if kind < 2 else np.full(size, kind == 2, np.uint8)))
    return masks


def test_what_pycocotools_writes_is_whole():
    masks = random_masks(300)
    masks.append(coded(np.ones((3000, 4000), np.uint8)))
    assert first_broken(masks) is None
    assert first_broken([]) is None
    assert first_broken(masks * 30) is None  # several chunks


def runs_of(text: str) -> list[int] | None:
    """Oracle: the coding read character by character; None where it is broken."""
    runs, i = [], 0
    while i < len(text):
        value, group, more = 0, 0, True
        while more:
            if i == len(text) or not 0 <= ord(text[i]) - 48 <= 63 or group > 6:
                return None
            character = ord(text[i]) - 48
            value |= (character & 31) << (5 * group)
            more, i, group = bool(character & 32), i + 1, group + 1
            if not more and character & 16:
                value -= 1 << (5 * group)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            return None
    return runs


def test_damaged_texts_are_found_exactly_where_reading_them_slowly_finds_them():
    rng = np.random.default_rng(1)
    found = whole = 0
    for rle in random_masks(400):
        text = list(rle["counts"])
        for _ in range(rng.integers(0, 3)):
            text[rng.integers(0, len(text))] = chr(rng.integers(33, 127))
        text = "".join(text)[: len(text) - int(rng.random() < 0.2)]
        runs = runs_of(text)
        broken = not runs or sum(runs) != rle["size"][0] * rle["size"][1]
        assert first_broken([rle, {**rle, "counts": text}, rle]) == (1 if broken else None), text
        found, whole = found + broken, whole + (not broken)
    assert found > 100 and whole > 50


def test_letters_outside_ascii_and_empty_texts_are_broken():
    rle = coded(np.ones((4, 4), np.uint8))
    for text in ("", "é", "北京", "\x00"):
        assert first_broken([rle, rle, {**rle, "counts": text}]) == 2
        assert first_broken([{**rle, "counts": text}]) == 0

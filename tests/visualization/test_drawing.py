"""Boxes, labels, colors and sheets."""

import cv2
import numpy as np
import pytest
import torch

from densevit.errors import DataError
from densevit.ops.masks import encode_bitmaps
from densevit.structures import DataSample, InstanceData
from densevit.visualization import (
    class_color,
    contact_sheet,
    draw_ground_truth_and_prediction,
    draw_instances,
    enlarged,
    palette,
    text,
    text_color,
    write_image,
)
from densevit.visualization import instances as drawing
from densevit.visualization.palette import instance_colors

NAMES = ["person", "traffic light", "café", "北京"]
SIZES = [(60, 80), (1, 1), (7, 300), (427, 640), (1500, 2000)]


def some_boxes(size, count, seed=0):
    rng = np.random.default_rng(seed)
    height, width = size
    corners = np.sort(rng.uniform(-0.3, 1.3, (count, 2, 2)), axis=1) * [width, height]
    return corners.reshape(count, 4), rng.integers(0, 6, count), rng.random(count)


@pytest.mark.parametrize("size", SIZES)
def test_drawing_copies_the_picture_and_keeps_its_size(size):
    image = np.full((*size, 3), 90, np.uint8)
    boxes, labels, scores = some_boxes(size, 20)
    before = boxes.copy()
    drawn = draw_instances(image, boxes, labels, scores, NAMES)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 90).all() and (boxes == before).all()
    assert (drawn != 90).any()


def locations(monkeypatch, size, boxes, labels, scores):
    """Where `draw_instances` puts its labels."""
    found = []
    location = drawing._place

    def remember(*args):
        found.append(location(*args))
        return found[-1]

    monkeypatch.setattr(drawing, "_place", remember)
    draw_instances(np.zeros((*size, 3), np.uint8), boxes, labels, scores, NAMES)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_labels_stay_inside_the_picture(monkeypatch, size):
    found = locations(monkeypatch, size, *some_boxes(size, 30, seed=1))
    assert len(found) == 30
    for rect in found:
        assert 0 <= rect.left < rect.right <= size[1] and 0 <= rect.top < rect.bottom <= size[0]


def test_labels_of_boxes_at_one_place_do_not_cover_each_other(monkeypatch):
    boxes = np.tile([[200, 150, 400, 300]], (5, 1)) + np.arange(5)[:, None]
    found = locations(monkeypatch, (480, 640), boxes, np.zeros(5, int), np.linspace(0.9, 0.5, 5))
    assert all(a.overlap(b) == 0 for i, a in enumerate(found) for b in found[:i])


def test_the_label_of_a_box_in_the_middle_stands_on_its_upper_edge(monkeypatch):
    (rect,) = locations(monkeypatch, (480, 640), [[200, 150, 400, 300]], [0], [0.9])
    assert abs(rect.left - 200) <= 2 and abs(rect.bottom - 150) <= 2


def test_a_box_is_drawn_in_the_color_of_its_class_on_its_edge():
    drawn = draw_instances(np.zeros((400, 400, 3), np.uint8), [[100, 100, 300, 300]], [1])
    for y, x in ((100, 280), (300, 200), (200, 100), (200, 300)):
        assert tuple(drawn[y, x].tolist()) == class_color(1)
    assert (drawn[150:290, 150:290] == 0).all()


def test_lines_and_letters_grow_with_the_picture():
    small, large = text.style_for(300, 400), text.style_for(3000, 4000)
    assert large.line >= 7 * small.line and large.scale >= 7 * small.scale
    assert text.style_for(60, 80).scale >= 0.3


def test_a_name_too_long_for_the_picture_is_cut_and_a_score_given_up_first():
    style = text.style_for(60, 80)
    label, (width, _), _ = text.fitting_text("a very long class name", 0.5, 80, style)
    assert width <= 80 and label.endswith(".") and "a very long class name".startswith(label[:-1])
    assert text.fitting_text("dog", 0.5, 80, style)[0] == "dog 0.50"
    assert text.fitting_text("bench", 0.5, 45, style)[0] in ("bench", "benc.")


def test_names_outside_ascii_are_still_distinguished():
    assert [text.class_name(NAMES, k) for k in range(5)] == ["person", "traffic light", "cafe", "#3", "#4"]


def test_boxes_of_nan_are_left_out_and_tensors_and_gray_pictures_taken():
    gray = np.zeros((50, 50), np.uint8)
    drawn = draw_instances(gray, torch.tensor([[float("nan"), 0, 5, 5]]), torch.tensor([0]), torch.tensor([0.5]))
    assert drawn.shape == (50, 50, 3) and not drawn.any()
    assert not draw_instances(gray, np.zeros((0, 4)), []).any()


def test_every_class_has_a_color_of_its_own_whatever_the_number_of_classes():
    colors = palette(1203)
    assert colors.shape == (1203, 3) and colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == 1203
    assert (palette(12) == colors[:12]).all()
    first = palette(12).astype(int)
    distances = np.abs(first[:, None] - first[None]).sum(-1)
    assert distances[~np.eye(12, dtype=bool)].min() > 60


def contrast(a, b):
    def luminance(color):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
        return 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]

    bright, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_text_stands_out_on_every_color():
    # 4.5 is what WCAG 2.1 asks for; black or white reaches it on any ground.
    assert min(contrast(class_color(k), text_color(class_color(k))) for k in range(500)) >= 4.5


def test_a_sheet_shows_every_picture_in_its_cell():
    red, green, blue = (np.full((30, 60, 3), c, np.uint8) for c in ((0, 0, 255), (0, 255, 0), (255, 0, 0)))
    sheet = contact_sheet([[(red, "red"), (green, "green")], [(blue, "blue")]], cell=120, gap=10)
    assert sheet.shape[1] == 3 * 10 + 2 * 120
    for color, center in (((0, 0, 255), 10 + 60), ((0, 255, 0), 20 + 180)):
        column = sheet[:, center]
        assert (column == color).all(1).sum() == 60
    assert ((sheet == (255, 0, 0)).all(2)).sum() == 60 * 120
    assert contact_sheet([]).ndim == 3
    assert contact_sheet([[(np.zeros((5, 5), np.uint8), "gray")], []]).ndim == 3


def test_a_thumbnail_is_enlarged_by_a_whole_factor():
    picture, factor = enlarged(np.zeros((60, 80, 3), np.uint8), 320)
    assert factor == 4 and picture.shape == (240, 320, 3)
    assert enlarged(np.zeros((400, 500, 3), np.uint8), 320)[1] == 1


def test_ground_truth_is_brought_back_to_the_original_image():
    # The ground truth is in the frame of the network's input: twice the size, flipped.
    sample = DataSample(metainfo={"scale_factor": (2.0, 2.0), "flip": True, "img_shape": (200, 400)})
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[40.0, 20, 120, 100]]), labels=torch.tensor([0]))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[140.0, 10, 180, 50], [0, 0, 9, 9]]),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.1]),
    )
    image = np.zeros((100, 200, 3), np.uint8)
    (ground_truth, title), (found, other) = draw_ground_truth_and_prediction(
        image, sample, ["thing", "other"], side=200
    )
    assert title == "ground truth: 1 object" and other == "prediction: 1 object with score >= 0.3"
    edges = {tuple(p) for p in np.argwhere((ground_truth == class_color(0)).all(2)).tolist()}
    assert {(30, 140), (30, 180), (50, 150)} <= edges
    assert (found[30, 140] == class_color(0)).all() and not (found == class_color(1)).all(2).any()
    assert not image.any()


def test_true_and_predicted_masks_are_drawn_where_they_are_in_the_original_image():
    sample = DataSample(metainfo={"scale_factor": (2.0, 2.0), "flip": True, "img_shape": (200, 400)})
    seen = torch.zeros(1, 224, 416, dtype=torch.bool)  # flipped, twice the size, padded
    seen[0, 20:100, 40:120] = True
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[40.0, 20, 120, 100]]), labels=torch.tensor([0]), masks=seen
    )
    original = np.zeros((2, 100, 200), bool)
    original[0, 10:50, 140:180] = True
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[140.0, 10, 180, 50], [0, 0, 50, 50]]), labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.1]), masks=encode_bitmaps(original),
    )  # fmt: skip
    image = np.zeros((100, 200, 3), np.uint8)
    for side in (200, 400, 150):
        cells = draw_ground_truth_and_prediction(image, sample, ["thing", "other"], side=side)
        expected = cv2.resize(original[0].astype(np.uint8), (side, side // 2), interpolation=cv2.INTER_AREA)
        for picture, _ in cells:
            inner = cv2.erode(expected, np.ones((7, 7))) > 0
            inner[: side // 20 + 20] = False  # the label
            outer = cv2.dilate(expected, np.ones((5, 5))) == 0
            outer[:, int(0.69 * side) :] = False  # box and label
            assert picture[inner].any(1).all() and len(np.unique(picture[inner], axis=0)) == 1
            assert inner.any() and not picture[outer].any()


@pytest.mark.parametrize("form", ["rle", "bitmap"])
def test_a_mask_is_a_tint_of_what_lies_under_it_and_its_outline_stands_out(form):
    for ground in (0, 90, 200, 255):
        image = np.full((300, 400, 3), ground, np.uint8)
        mask = np.zeros((1, 300, 400), bool)
        mask[0, 80:250, 100:300] = True
        masks = encode_bitmaps(mask) if form == "rle" else list(mask)
        drawn = draw_instances(image, [[60, 40, 340, 280]], [0], None, ["thing"], masks)
        tints = np.unique(drawn[85:245, 105:295].reshape(-1, 3), axis=0)
        assert len(tints) == 1 and (tints[0] != ground).any() and (tints[0] != class_color(0)).any()
        edge = drawn[160, 100:102].astype(int)
        assert max(contrast(tuple(pixel), (ground,) * 3) for pixel in edge.tolist()) >= 2.8  # 3 but for the smoothing
        assert (image == ground).all()


def test_small_masks_are_not_hidden_under_large_ones():
    masks = np.zeros((2, 100, 100), bool)
    masks[0, 10:90, 10:90] = True
    masks[1, 45:60, 45:60] = True
    boxes = [[10, 10, 90, 90], [45, 45, 60, 60]]
    for scores in ([0.9, 0.5], [0.5, 0.9]):
        drawn = draw_instances(np.zeros((100, 100, 3), np.uint8), boxes, [3, 0], scores, None, encode_bitmaps(masks))
        lone = draw_instances(np.zeros((100, 100, 3), np.uint8), boxes[:1], [3], scores[:1], None, list(masks[:1]))
        assert (drawn[52, 52] != lone[52, 52]).any()


def test_objects_of_one_class_have_shades_of_its_color_to_themselves():
    colors = instance_colors([4] * 30 + [7] + [4])
    assert colors[0] == class_color(4) and colors[30] == class_color(7)
    assert len(set(colors)) >= 30
    hues = cv2.cvtColor(np.uint8([colors[:30]]), cv2.COLOR_BGR2HSV)[0, :, 0].astype(int)
    apart = abs((hues - hues[0] + 90) % 180 - 90)
    assert max(apart) <= 17  # of 180: still the class's own


def test_empty_masks_and_no_objects_are_drawn():
    image = np.zeros((50, 50, 3), np.uint8)
    empty = encode_bitmaps(np.zeros((1, 50, 50)))
    assert draw_instances(image, [[5, 5, 20, 20]], [0], [0.9], None, empty).any()
    assert not draw_instances(image, np.zeros((0, 4)), [], [], None, []).any()


def test_letters_are_smaller_where_many_labels_would_cover_the_picture(monkeypatch):
    boxes, labels, scores = some_boxes((480, 640), 60, seed=2)
    crowded = list(locations(monkeypatch, (480, 640), boxes, labels, scores))
    (alone,) = locations(monkeypatch, (480, 640), boxes[:1], labels[:1], scores[:1])
    assert max(r.bottom - r.top for r in crowded) < alone.bottom - alone.top
    covered = np.zeros((480, 640), int)
    for rect in crowded:
        covered[rect.top : rect.bottom, rect.left : rect.right] += 1
    assert (covered > 1).mean() < 0.01 and (covered > 0).mean() < 0.35


def test_labels_do_not_hide_small_objects_beside_theirs(monkeypatch):
    row = [[150 + 26 * k, 300, 164 + 26 * k, 350] for k in range(14)]  # bottles on a shelf
    found = locations(monkeypatch, (480, 640), row, np.zeros(14, int), np.linspace(0.9, 0.6, 14))
    hidden = np.zeros((480, 640), bool)
    for rect in found:
        hidden[rect.top : rect.bottom, rect.left : rect.right] = True
    for x1, y1, x2, y2 in row:
        assert hidden[y1:y2, x1:x2].mean() < 0.3


def test_objects_smaller_than_their_labels_lose_the_score_where_there_are_many(monkeypatch):
    said = []
    monkeypatch.setattr(drawing, "plate", lambda text, size, *args: said.append(text) or np.zeros((*size[::-1], 3)))
    tiny = [[40 * k, 200, 40 * k + 12, 220] for k in range(14)]
    draw_instances(np.zeros((480, 640, 3), np.uint8), [*tiny, [0, 300, 300, 400]], [0] * 15, [0.5] * 15, ["dog"])
    assert sorted(said) == ["dog"] * 14 + ["dog 0.50"]
    said.clear()
    draw_instances(np.zeros((480, 640, 3), np.uint8), tiny[:5], [0] * 5, [0.5] * 5, ["dog"])
    assert said == ["dog 0.50"] * 5


def test_a_line_joins_a_label_that_stands_apart_to_its_box(monkeypatch):
    ground = np.zeros((400, 400, 3), np.uint8)
    beside = draw_instances(ground, [[100, 100, 200, 200]], [1], None, NAMES)
    monkeypatch.setattr(drawing, "_place", lambda *args: drawing.Rect(300, 300, 350, 316))
    apart = draw_instances(ground, [[100, 100, 200, 200]], [1], None, NAMES)
    assert apart[205:300, 205:330].any((1, 2)).all() and apart[205:300, 205:330].any((0, 2))[:90].all()
    assert not beside[205:300, 205:330].any()


def test_true_maps_are_brought_back_to_the_original_image():
    sample = DataSample(metainfo={"scale_factor": (2.0, 2.0), "flip": True, "img_shape": (80, 120)})
    class_map = torch.arange(60)[None].repeat(40, 1) // 20  # the original's: thirds
    seen = class_map.flip(1).repeat_interleave(2, 0).repeat_interleave(2, 1)
    sample.gt_semantic = torch.nn.functional.pad(seen, (0, 8, 0, 16), value=255)
    sample.pred_semantic = class_map
    sample.gt_depth = torch.nn.functional.pad(seen + 1.0, (0, 8, 0, 16))
    sample.pred_depth = class_map + 1.0
    cells = draw_ground_truth_and_prediction(np.zeros((40, 60, 3), np.uint8), sample, side=120)
    assert [title for _, title in cells] == [
        *("ground truth: classes", "prediction: classes"),
        *("ground truth: depth, 1.0 to 3.0 m", "prediction: depth"),
    ]
    for (ground_truth, _), (found, _) in (cells[:2], cells[2:]):
        assert ground_truth.shape == (80, 120, 3) and (ground_truth == found).all() and ground_truth.any()


def test_pictures_are_written_with_any_name_and_refused_with_one_sentence(tmp_path):
    path = tmp_path / "neu" / "Straße 北京.png"
    write_image(path, np.full((4, 5, 3), (1, 2, 3), np.uint8))
    read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert (read == (1, 2, 3)).all()
    with pytest.raises(DataError, match="no ending of a picture"):
        write_image(tmp_path / "picture", np.zeros((4, 5, 3), np.uint8))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", np.zeros((4, 5, 3), np.uint8))

"""Folders in LabelMe format: what is read as what, and what is refused."""

import math

import pytest
from label_folders import labelme_json, objects_of, write_image, write_text

from densevit.datasets.formats import read_folder
from densevit.errors import DataError

TRIANGLE = [[5, 5], [15, 5], [5, 15]]


def folder(root, *shapes, **settings):
    for name in "ab":
        write_image(root / f"{name}.jpg", seed=ord(name))
        write_text(root / f"{name}.json", labelme_json(*shapes, image=f"{name}.jpg", **settings))
    return root


def annotations(data):
    return data.splits["train"].annotations


def test_polygons_rectangles_and_circles(tmp_path):
    shapes = [
        ("cat", "polygon", TRIANGLE),
        ("dog", "rectangle", [[20, 15], [10, 5]]),
        ("cat", "circle", [[20, 10], [24, 10]]),
    ]
    data = read_folder(folder(tmp_path, *shapes))
    polygon, rectangle, circle = annotations(data)
    assert data.format == "labelme" and data.classes == ("cat", "dog")
    assert polygon["bbox"] == [5, 5, 10, 10] and polygon["segmentation"] == [[5, 5, 15, 5, 5, 15]]
    assert polygon["area"] == 50
    assert rectangle["bbox"] == [10, 5, 10, 10] and "segmentation" not in rectangle
    assert circle["bbox"] == [16, 6, 8, 8] and circle["area"] == pytest.approx(16 * math.pi, rel=2e-3)


def test_shapes_of_one_group_and_label_are_one_object(tmp_path):
    other = [[25, 5], [35, 5], [25, 15]]
    shapes = [("cat", "polygon", TRIANGLE, 1), ("cat", "polygon", other, 1), ("dog", "polygon", other, 1)]
    cat, dog = annotations(read_folder(folder(tmp_path, *shapes)))
    assert len(cat["segmentation"]) == 2 and cat["bbox"] == [5, 5, 30, 10] and cat["area"] == 100
    assert len(dog["segmentation"]) == 1


def test_a_rectangle_of_a_group_of_its_own_has_no_mask(tmp_path):
    (box,) = annotations(read_folder(folder(tmp_path, ("cat", "rectangle", [[1, 2], [5, 8]], 3))))
    assert box["bbox"] == [1, 2, 4, 6] and "segmentation" not in box


def test_what_encloses_nothing_is_left_out_and_named(tmp_path):
    shapes = [
        ("cat", "polygon", TRIANGLE),
        ("cat", "polygon", TRIANGLE[:2]),
        ("cat", "point", [[1, 1]]),
        ("cat", "linestrip", TRIANGLE),
        ("cat", "polygon", [[1, 1], [2, 2], [3, 3]]),
    ]
    data = read_folder(folder(tmp_path, *shapes))
    assert len(annotations(data)) == 1
    assert data.left_out == {
        "shapes of the kind point": ["a.json shape 3", "b.json shape 3"],
        "shapes of the kind linestrip": ["a.json shape 4", "b.json shape 4"],
        "polygons of fewer than three points": ["a.json shape 2", "b.json shape 2"],
        "objects without an area": ["a.json shape 5", "b.json shape 5"],
    }


def test_the_image_may_be_elsewhere_and_its_path_of_windows(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / f"images/{split}/a.JPG", seed=len(split))
        text = labelme_json(("cat", "polygon", TRIANGLE), image=f"..\\..\\images\\{split}\\a.JPG")
        write_text(tmp_path / f"labels/{split}/a.json", text)
    assert objects_of(read_folder(tmp_path), "val") == [("a.JPG", "cat", [5, 5, 10, 10])]


def test_what_stands_alone_is_counted_and_named(tmp_path):
    folder(tmp_path, ("cat", "polygon", TRIANGLE))
    write_image(tmp_path / "alone.jpg")
    write_text(tmp_path / "lost.json", labelme_json(("cat", "polygon", TRIANGLE), image="lost.jpg"))
    write_text(tmp_path / "other.json", "{}")
    assert read_folder(tmp_path).left_out == {
        "labels without an image": ["lost.json"],
        "JSON files without shapes": ["other.json"],
        "images without labels": ["alone.jpg"],
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is no JSON"),
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"shapes": [{"label": 3, "points": [[1, 2]]}], "imagePath": "c.jpg"}', "c.json shape 1 needs a label"),
        ('{"shapes": [{"label": "x", "points": [[1, "2b"]]}], "imagePath": "c.jpg"}', "c.json shape 1 needs a label"),
        ('{"shapes": [{"label": "x", "points": [[1, NaN]]}], "imagePath": "c.jpg"}', "c.json shape 1 needs a label"),
        ('{"shapes": [7], "imagePath": "c.jpg"}', "c.json shape 1 needs a label"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, text, message):
    folder(tmp_path, ("cat", "polygon", TRIANGLE))
    write_image(tmp_path / "c.jpg")
    write_text(tmp_path / "c.json", text)
    with pytest.raises(DataError, match=message) as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_utf_16_and_latin_1_are_read(tmp_path):
    folder(tmp_path, ("cat", "polygon", TRIANGLE))
    text = labelme_json(("B\u00e4r", "polygon", TRIANGLE), image="a.jpg").replace("\\u00e4", "\u00e4")
    for encoding in ("utf-16", "utf-8-sig", "latin-1"):
        write_text(tmp_path / "a.json", text.encode(encoding))
        assert read_folder(tmp_path).classes == ("B\u00e4r", "cat")


def test_an_image_within_the_label_file_is_passed_over(tmp_path):
    folder(tmp_path, ("cat", "polygon", TRIANGLE))
    text = labelme_json(("dog", "polygon", TRIANGLE)).replace('"imageData": null', f'"imageData": "{"A" * (17 << 20)}"')
    write_text(tmp_path / "a.json", text)
    assert read_folder(tmp_path).classes == ("cat", "dog")

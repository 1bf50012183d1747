"""Names, colors and label rules: what a value of a class map means is stated once, and contradictions are named."""

import json

import pytest

from densevit.datasets.class_names import KNOWN
from densevit.datasets.semantic_classes import semantic_classes
from densevit.errors import ConfigError


def test_ade20k_has_the_published_names_and_colors(shared):
    published = json.loads((shared / "data/ade20k_sample/objectInfo150.json").read_text())
    ours = semantic_classes("ade20k")
    assert [list(color) for color in ours.palette] == [entry["color"] for entry in published]
    for name, entry in zip(ours.names, published, strict=True):  # published with all synonyms, words split by ';' too
        assert set(name.split()) <= set(entry["name"].split(";")), (name, entry["name"])
    assert ours.values == {0: 255, 255: 255} | {entry["id"]: entry["id"] - 1 for entry in published}


def test_camvid_has_the_names_and_colors_of_its_description(shared):
    info = json.loads((shared / "data/camvid_third/info.json").read_text())
    ours = semantic_classes("camvid")
    assert list(ours.names) == info["classes"] and [list(c) for c in ours.palette] == info["palette"]


def test_vocs_colors_are_its_formula():
    """Bit n of a color channel is bit 3 (7 - n) and so on of the class number, as VOC's development kit makes them."""
    for label, color in enumerate(semantic_classes("voc").palette):
        expected = [sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
        assert list(color) == expected


def test_both_kinds_of_cityscapes_maps_give_the_same_classes():
    train_ids, label_ids = semantic_classes("cityscapes"), semantic_classes("cityscapes_label_ids")
    assert train_ids.names == label_ids.names and len(train_ids.names) == 19
    pairs = {"road": 7, "sidewalk": 8, "building": 11, "pole": 17, "sky": 23, "person": 24, "train": 31, "bicycle": 33}
    for name, value in pairs.items():
        label = train_ids.names.index(name)
        assert train_ids.values[label] == label_ids.values[value] == label
    assert sum(label != 255 for label in label_ids.values.values()) == 19
    assert set(label_ids.values) == {*range(34), 255}


@pytest.mark.parametrize("name", KNOWN)
def test_each_known_class_has_a_name_a_color_and_a_value(name):
    classes = semantic_classes(name)
    assert len(classes.palette) == len(set(classes.names)) == len(classes.names)
    assert [classes.values[value] for value in classes.label_values] == list(range(len(classes.names)))


def test_class_files_of_every_form_say_the_same(tmp_path):
    names, colors = ["sea", "dry land", "sky"], [[0, 0, 255], [0, 128, 0], [9, 9, 9]]
    forms = {
        "a.txt": "sea 0 0 255\ndry land 0 128 0\n\nsky 9 9 9\n",
        "b.json": json.dumps(dict(classes=names, palette=colors)),
        "c.json": json.dumps([dict(name=n, color=c) for n, c in zip(names, colors, strict=True)]),
        "d.json": json.dumps([dict(name=n, color=c, id=i) for i, (n, c) in enumerate(zip(names, colors, strict=True))]),
    }
    for file, text in forms.items():
        (tmp_path / file).write_text(text)
        found = semantic_classes(file, str(tmp_path))
        assert found.names == tuple(names) and [list(c) for c in found.palette] == colors, file
        assert found.values == {0: 0, 1: 1, 2: 2, 255: 255}, file
        assert found.colors[0, 128, 0] == 1
    (tmp_path / "e.txt").write_text("sea\ndry land\nsky\n")
    (tmp_path / "f.json").write_text(json.dumps(names))
    for plain in (semantic_classes(str(tmp_path / "e.txt")), semantic_classes("f.json", str(tmp_path))):
        assert plain.names == tuple(names) and plain.palette is None
    assert semantic_classes(names).values == {0: 0, 1: 1, 2: 2, 255: 255}


def test_ids_are_the_values_of_the_maps(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps([dict(name="a", id=7), dict(name="b", id=300), dict(name="c", id=0)]))
    found = semantic_classes("c.json", str(tmp_path))
    assert found.values == {7: 0, 300: 1, 0: 2, 255: 255} and found.label_values == (7, 300, 0)


def test_zero_is_ignored_shifts_and_label_map_has_the_last_word():
    assert semantic_classes(["a", "b"], reduce_zero_label=True).values == {0: 255, 1: 0, 2: 1, 255: 255}
    ruled = semantic_classes(["a", "b"], label_map={0: 255, "9": "b", 4: 0, (1, 2, 3): "a", 1: 1})
    assert ruled.values == {0: 255, 1: 1, 9: 1, 4: 0, 255: 255} and ruled.colors == {(1, 2, 3): 0}
    assert ruled.label_values == (4, 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(classes="ade20"), r"no classes 'ade20' \(nearest: 'ade20k'\)"),
        (dict(classes="nowhere.txt"), r"There is no class file .*nowhere\.txt: correct `classes`"),
        (dict(classes=["a", "b", "a"]), "the class 'a' twice"),
        (dict(classes=[]), "has 0 classes"),
        (dict(classes=[str(i) for i in range(255)]), "has 255 classes: give 1 to 254"),
        (dict(classes="voc", reduce_zero_label=True), "the value 0 is the class 'background'"),
        (dict(classes="ade20k", reduce_zero_label=False), "in ade20k the value 0 has no class"),
        (dict(classes=["a", "b"], label_map={3: "c"}), "label_map gives the class 'c'"),
        (dict(classes=["a", "b"], label_map={3: 2}), "label_map gives the class 2, .* 0 to 1"),
        (dict(classes=["a", "b"], label_map={"x": 1}), "label_map has the key 'x'"),
        (dict(classes=["a", "b"], label_map={(1, 2, 400): 1}), "red, green and blue from 0 to 255"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        semantic_classes(**arguments)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("c.json", "{", "cannot be read"),
        ("c.json", '{"names": ["a"]}', "has no list 'classes'"),
        ("c.json", '[{"label": "a"}]', "Class 0 of .* has no 'name'"),
        ("c.json", '[{"name": "a", "id": 1}, {"name": "b"}]', "an 'id' of its own.* or none any"),
        ("c.json", '{"classes": ["a", "b"], "palette": [[1, 2, 3]]}', "2 classes and 1 colors"),
        ("c.txt", "a 1 2 3\nb\n", "The color of the class 'b' of .* is None"),
        ("c.txt", "a 1 2 300\n", r"is \[1, 2, 300\]: give red, green and blue"),
    ],
)
def test_a_class_file_that_cannot_be_used_is_named(tmp_path, file, text, sentence):
    (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        semantic_classes(file, str(tmp_path))


CVAT = "# label:color_rgb:parts:actions\nsea:0,0,255::\ndry land: 0, 128, 0 :part,other:swim\nsky:9,9,9::\n"
LABELS = [
    CVAT.encode(),
    b"\xef\xbb\xbf" + CVAT.replace("\n", "\r\n").encode(),
    CVAT.encode("utf-16"),
    b"# three classes\n\nsea 0 0 255   # blue\n  # no class\ndry land 0 128 0\nsky 9 9 9 #\n",
]


@pytest.mark.parametrize("content", LABELS)
def test_class_files_of_other_programs(tmp_path, content):
    (tmp_path / "labelmap.txt").write_bytes(content)
    found = semantic_classes(str(tmp_path / "labelmap.txt"))
    assert found.names == ("sea", "dry land", "sky") and found.palette == ((0, 0, 255), (0, 128, 0), (9, 9, 9))
    assert found.colors == {(0, 0, 255): 0, (0, 128, 0): 1, (9, 9, 9): 2}


def test_class_files_in_latin_1_and_with_marks(tmp_path):
    (tmp_path / "a.txt").write_bytes("Stra\u00dfe #1\nB\u00e4ume:::\n".encode("latin-1"))
    assert semantic_classes(str(tmp_path / "a.txt")).names == ("Stra\u00dfe #1", "B\u00e4ume")
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + b'["sea", "sky"]')
    assert semantic_classes(str(tmp_path / "a.json")).names == ("sea", "sky")


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        (dict(), (0, 1)),
        (dict(reduce_zero_label=True), (1, 2)),
        (dict(label_map={255: "obj"}), (0, 255)),
        (dict(label_map={1000: "obj"}), (0, 1000)),
        (dict(label_map={7: "bg", 8: "obj", 9: "obj"}), (7, 8)),
        (dict(label_map={0: 255, 200: 0}), (200, 1)),
        (dict(label_map={9: 255}), (0, 1)),
        (dict(label_map={(1, 2, 3): "obj"}), (0, 1)),
    ],
)
def test_maps_are_written_in_the_values_that_the_dataset_was_stated_to_have(settings, own):
    classes = semantic_classes(["bg", "obj"], **settings)
    assert classes.label_values == own
    assert [classes.values[value] for value in own] == [0, 1]


def test_a_class_files_own_values_stay_where_others_are_mapped_to_the_class(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps([dict(name="bg", id=40), dict(name="obj", id=50)]))
    assert semantic_classes("c.json", str(tmp_path), label_map={3: "obj", 60: "bg"}).label_values == (40, 50)


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_class_files_may_have_marks_comments_and_latin_letters(tmp_path, form, newline):
    lines = ["# name and color", "", "stra\u00dfe 1 2 3", "  h\u00fcgel 4 5 6  ", "#"]
    (tmp_path / "c.txt").write_bytes(newline.join(lines).encode(form))
    found = semantic_classes(str(tmp_path / "c.txt"))
    assert found.names == ("stra\u00dfe", "h\u00fcgel") and found.palette == ((1, 2, 3), (4, 5, 6))
    (tmp_path / "c.json").write_bytes(json.dumps(["stra\u00dfe", "h\u00fcgel"], ensure_ascii=False).encode(form))
    assert semantic_classes(str(tmp_path / "c.json")).names == found.names

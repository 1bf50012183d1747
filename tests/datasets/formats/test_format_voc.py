"""Folders in PASCAL VOC format: what is read as what, and what is refused."""

import pytest
from label_folders import objects_of, voc_xml, write_image, write_text, write_voc

from densevit.datasets.formats import read_folder
from densevit.errors import DataError

LISTS = {"train": ["a"], "val": ["b"]}
CAT = ("cat", 1, 1, 10, 20)
"""Pixels 0 to 9 across and 0 to 19 down."""


def test_boxes_count_from_one_and_include_their_last_pixel(tmp_path):
    labels = {"a": voc_xml(CAT, ("dog", 31, 11, 40, 20)), "b": voc_xml(CAT)}
    data = read_folder(write_voc(tmp_path, labels, LISTS))
    assert data.format == "voc" and data.classes == ("cat", "dog")
    assert objects_of(data, "train") == [("a.jpg", "cat", [0, 0, 10, 20]), ("a.jpg", "dog", [30, 10, 10, 10])]
    assert any("count from 1" in note for note in data.notes)


@pytest.mark.parametrize("corners", [(0, 0, 10, 20), (0.5, 1, 10.5, 20)])
def test_a_set_that_counts_from_zero_is_taken_as_it_is(tmp_path, corners):
    data = read_folder(write_voc(tmp_path, {"a": voc_xml(("cup", *corners)), "b": voc_xml(CAT)}, LISTS))
    assert objects_of(data, "train")[0][2] == [*corners[:2], corners[2] - corners[0], corners[3] - corners[1]]
    assert objects_of(data, "val")[0][2] == [1, 1, 9, 19]
    assert data.classes == ("cat", "cup") and any("count from 0" in note for note in data.notes)


def test_corners_the_wrong_way_round_are_put_in_order_and_counted(tmp_path):
    data = read_folder(write_voc(tmp_path, {"a": voc_xml(("cat", 10, 20, 1, 1)), "b": voc_xml(CAT)}, LISTS))
    assert objects_of(data, "train") == [("a.jpg", "cat", [0, 0, 10, 20])]
    assert list(data.remarks.values()) == [["Annotations/a.xml object 1"]]


def test_difficult_objects_are_ignore_regions(tmp_path):
    labels = {"a": voc_xml(CAT, extra="<difficult>1</difficult>"), "b": voc_xml(CAT, extra="<difficult>0</difficult>")}
    data = read_folder(write_voc(tmp_path, labels, LISTS))
    assert [data.splits[name].annotations[0]["iscrowd"] for name in ("train", "val")] == [1, 0]


def test_classes_have_the_order_of_a_class_file(tmp_path):
    write_voc(tmp_path, {"a": voc_xml(("zebra", 1, 1, 9, 9), ("ant", 1, 1, 9, 9)), "b": voc_xml()}, LISTS)
    assert read_folder(tmp_path).classes == ("ant", "zebra")
    write_text(
        tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nzebra:1,2,3::\nant:::\n"
    )
    assert read_folder(tmp_path).classes == ("zebra", "ant")


def test_trainval_counts_where_there_is_no_train(tmp_path):
    labels = {name: voc_xml(CAT) for name in "abcdefg"}
    write_voc(tmp_path, labels, {"trainval": list("abcde"), "test": ["f"], "cat_train": ["a 1", "b -1"]})
    data = read_folder(tmp_path)
    assert [len(data.splits[name].images) for name in ("train", "val", "test")] == [4, 1, 1]
    assert data.left_out == {"labels that no list of ImageSets names": ["Annotations/g.xml"]}


def test_files_beside_the_images_in_folders_of_splits(tmp_path):
    for split in ("train", "valid", "test"):
        write_image(tmp_path / split / "x y.PNG", seed=len(split))
        write_text(tmp_path / split / "x y.xml", voc_xml(CAT, filename="C:\\photos\\x y.PNG"))
    data = read_folder(tmp_path)
    assert list(data.splits) == ["train", "val", "test"] and objects_of(data, "test") == [
        ("x y.PNG", "cat", [0, 0, 10, 20])
    ]


def test_labels_and_images_that_stand_alone_are_counted_and_named(tmp_path):
    write_voc(tmp_path, {"a": voc_xml(CAT), "b": voc_xml(CAT)})
    write_image(tmp_path / "JPEGImages/alone.jpg")
    write_text(tmp_path / "Annotations/lost.xml", voc_xml(CAT, filename="lost.jpg"))
    left_out = read_folder(tmp_path).left_out
    assert left_out == {
        "labels without an image": ["Annotations/lost.xml"],
        "images without labels": ["JPEGImages/alone.jpg"],
    }


def test_any_declared_encoding_is_read(tmp_path):
    for encoding in ("utf-8", "utf-16", "windows-1252", "iso-8859-15", "gb2312" if False else "cp1251"):
        name = "кошка" if encoding == "cp1251" else "Bär"
        text = voc_xml((name, 1, 1, 9, 9), head=f'<?xml version="1.0" encoding="{encoding}"?>\n')
        data = read_folder(write_voc(tmp_path / encoding, {"a": text.encode(encoding), "b": voc_xml(CAT)}, LISTS))
        assert objects_of(data, "train") == [("a.jpg", name, [0, 0, 9, 9])]
    text = voc_xml(("猫", 1, 1, 9, 9), head='<?xml version="1.0" encoding="gb2312"?>').encode("gb2312")
    data = read_folder(write_voc(tmp_path / "gb", {"a": text, "b": voc_xml(CAT)}, LISTS))
    assert objects_of(data, "train")[0][1] == "猫"


ENTITIES = (
    '<!DOCTYPE a [<!ENTITY x "x">' + "".join(f'<!ENTITY x{i} "{f"&x{i - 1};" * 10}">' for i in range(1, 10)) + "]>"
)


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "is empty"),
        (b"<annotation><object>", "is no whole XML file"),
        (b"<annotation>\0</annotation>", "is no whole XML file"),
        (voc_xml(("B\u00e4r", 1, 1, 9, 9)).encode("latin-1"), "is not in utf-8"),
        (voc_xml(CAT, head='<?xml version="1.0" encoding="klingon"?>'), "is not in klingon"),
        (voc_xml(("&x9;", 1, 1, 9, 9), head=ENTITIES), "declares entities"),
        (
            voc_xml(("&x;", 1, 1, 9, 9), head='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
            "declares entities",
        ),
        (voc_xml(("cat", "one", 1, 9, 9)), "bndbox without the four numbers"),
        (voc_xml(("cat", "nan", 1, 9, 9)), "bndbox without the four numbers"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as error:
        read_folder(write_voc(tmp_path, {"a": voc_xml(CAT), "b": voc_xml(CAT), "c": text}))
    assert "\n" not in str(error.value) and "c.xml" in str(error.value)


def test_objects_without_a_box_and_other_xml_are_left_out(tmp_path):
    rotated = voc_xml(CAT).replace("bndbox>", "robndbox>")
    write_voc(tmp_path, {"a": voc_xml(CAT), "b": voc_xml(CAT), "c": rotated, "d": "<recipe/>"})
    data = read_folder(tmp_path)
    assert data.left_out["objects without a name or an upright box"] == ["Annotations/c.xml object 1"]
    assert data.left_out["XML files that are no annotation"] == ["Annotations/d.xml"]


def test_a_stated_size_of_zero_is_replaced_by_the_images_own(tmp_path):
    data = read_folder(write_voc(tmp_path, {name: voc_xml(CAT, size=(0, 0)) for name in "ab"}))
    image = data.splits["train"].images[0]
    assert (image["width"], image["height"]) == (40, 20)


def test_labels_of_another_image_are_refused(tmp_path):
    write_voc(tmp_path, {"a": voc_xml(CAT, size=(20, 40)), "b": voc_xml(CAT)})  # one may be stored on its side
    read_folder(tmp_path)
    write_text(tmp_path / "Annotations/a.xml", voc_xml(CAT, size=(80, 40)))
    with pytest.raises(DataError, match=r"JPEGImages/a.jpg is 40x20 pixels, but its labels are of 80x40 pixels"):
        read_folder(tmp_path)

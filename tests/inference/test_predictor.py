"""Predictor: an image in, named boxes in its own pixels out."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config
from PIL import Image

from densevit import Predictor
from densevit.errors import CheckpointError, ConfigError, DataError
from densevit.inference.images import images_under, left_out
from densevit.inference.prediction import Prediction
from densevit.registry import MODELS

CLASSES = ("person", "traffic light", "dog")
CONFIG = """
model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVTv2",
        arch=dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2),
                  sr_ratios=(8, 4, 2, 1), linear=False),
        init_cfg=dict(type="Pretrained", checkpoint="https://not.to.be.fetched/file.pth")),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1, test=dict(score_thr=0.0, max_per_image=20)))
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type="CocoDataset",
        ann_file="annotations/instances_val2017.json",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations"),
            dict(type="Resize", scale=(128, 96), keep_ratio=True),
            dict(type="PackSample"),
        ]))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A config, a checkpoint with random weights, and a photograph-like picture."""
    folder = tmp_path_factory.mktemp("predictor")
    (folder / "config.py").write_text(CONFIG)
    torch.manual_seed(0)
    model = MODELS.build(tiny.model_config())
    with torch.no_grad():  # scores that differ
        model.head.retina_cls.weight.normal_(0, 0.5)
        model.head.retina_reg.weight.normal_(0, 0.1)
    meta = {"dataset_meta": {"classes": CLASSES, "cat_ids": (1, 10, 18)}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, folder / "weights.pth")
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (200, 150), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(picture).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def predictor(files):
    return Predictor(files / "config.py", files / "weights.pth", "cpu")


@pytest.fixture(scope="module")
def rgb(files):
    return np.asarray(Image.open(files / "picture.png"))


def same(a: Prediction, b: Prediction) -> bool:
    return np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores) and a.names == b.names


def test_a_prediction_has_named_boxes_in_the_pixels_of_the_image(predictor, files):
    found = predictor(str(files / "picture.png"))
    assert found.boxes.shape == (20, 4) and found.boxes.dtype == np.float32
    assert found.scores.shape == (20,) and (np.diff(found.scores) <= 0).all()
    assert found.labels.dtype == np.int64 and found.names == [CLASSES[k] for k in found.labels]
    assert found.boxes[:, [0, 2]].max() > 128  # the network saw 128 x 96
    assert found.boxes.min() >= 0 and (found.boxes.max(0) <= [200, 150, 200, 150]).all()
    assert found.ori_shape == (150, 200) and found.img_path == str(files / "picture.png")


def test_path_bytes_rgb_array_and_pillow_image_give_the_same(predictor, files, rgb):
    path = files / "picture.png"
    first = predictor(path)
    for image in (str(path), path.read_bytes(), rgb, Image.open(path), np.dstack([rgb, rgb[..., :1]])):
        assert same(predictor(image), first)
    assert (first.image == rgb).all()
    assert not same(predictor(rgb[..., ::-1]), first)


def test_gray_arrays_and_gray_files_give_the_same(predictor, files, rgb):
    gray = np.ascontiguousarray(rgb[..., 0])
    Image.fromarray(gray).save(files / "gray.png")
    from_file = predictor(files / "gray.png")
    assert same(predictor(gray), from_file) and same(predictor(gray[..., None]), from_file)


def test_the_array_of_the_caller_is_not_changed(predictor, rgb):
    image = rgb.copy()
    found = predictor(image)
    found.draw(0)
    assert (image == rgb).all() and (found.image == rgb).all()


def test_many_images_give_what_each_gives_alone(predictor, files, rgb):
    images = [files / "picture.png", rgb[:100], rgb[:, :90], rgb]
    together = list(predictor.batch(images, size=3)) + list(predictor.batch([]))
    assert [p.image.shape for p in together] == [(150, 200, 3), (100, 200, 3), (150, 90, 3), (150, 200, 3)]
    for image, found in zip(images, together, strict=True):
        alone = predictor(image)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes[:5], alone.boxes[:5], atol=1e-2)


def test_one_tile_as_large_as_the_image_is_the_image(predictor, files, rgb):
    whole, tiled = predictor(rgb), predictor(rgb, tile=200)
    order = np.lexsort((whole.boxes[:, 0], -whole.scores))
    np.testing.assert_array_equal(np.sort(tiled.scores), np.sort(whole.scores))
    np.testing.assert_array_equal(tiled.boxes[np.lexsort((tiled.boxes[:, 0], -tiled.scores))], whole.boxes[order])
    assert predictor(files / "picture.png", tile=500).img_path == str(files / "picture.png")


def test_tiles_give_one_prediction_in_the_pixels_of_the_image(predictor, rgb):
    found = predictor(rgb, tile=80, overlap=20)
    assert found.image.shape == (150, 200, 3) and found.ori_shape == (150, 200)
    assert len(found.boxes) > 20 and (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0 and (found.boxes.max(0) <= [200, 150, 200, 150]).all()
    assert found.names == [CLASSES[k] for k in found.labels]
    assert (predictor(rgb, float(found.scores[3]), tile=80, overlap=20).scores >= found.scores[3]).all()
    found.pred_instances.bboxes += 1  # an ordinary tensor
    with pytest.raises(ConfigError, match="tiles of 5 pixels"):
        predictor(rgb, tile=5)
    with pytest.raises(ConfigError, match="an overlap of 20 pixels"):
        predictor(rgb, overlap=20)


def test_maps_of_tiles_are_laid_side_by_side(predictor, rgb, monkeypatch):
    def batch(images, score_thr=None, **looks):
        for image in images:
            found = Prediction(metainfo=dict(classes=None, semantic_classes=None))
            found.set_data(dict(
                image=image, pred_semantic=torch.from_numpy(image[..., 0].astype(np.int64)),
                pred_depth=torch.from_numpy(image[..., 1].astype(np.float32)),
            ))  # fmt: skip
            yield found

    monkeypatch.setattr(predictor, "batch", batch)
    found = predictor(rgb, tile=64)
    assert (found.semantic == rgb[..., 0]).all() and (found.depth == rgb[..., 1]).all()
    assert found.boxes.shape == (0, 4)

    def relative(*args, **kwargs):
        for found in batch(*args, **kwargs):
            found.set_metainfo({"depth_kind": "relative"})
            yield found

    monkeypatch.setattr(predictor, "batch", relative)
    with pytest.raises(ConfigError, match="relative depth of tiles does not go together"):
        predictor(rgb, tile=64)
    assert (predictor(rgb, tile=200).depth == rgb[..., 1]).all()


def test_a_score_threshold_leaves_out_what_scores_less(predictor, rgb):
    every = predictor(rgb)
    threshold = float(every.scores[7])
    assert len(predictor(rgb, threshold).boxes) == int((every.scores >= threshold).sum()) < 20


def test_drawing_gives_an_rgb_picture_of_the_same_size(predictor, rgb):
    found = predictor(rgb)
    drawn = found.draw(0.0)
    assert drawn.shape == rgb.shape and drawn.dtype == np.uint8 and drawn.flags.c_contiguous
    assert (drawn != rgb).any()
    assert (found.draw(1.1) == rgb).all()
    assert found.draw(0.0, min_size=350).shape == (300, 400, 3)


def test_json_holds_plain_numbers_in_both_box_forms(predictor, files):
    found = predictor(files / "picture.png")
    read = json.loads(json.dumps(found.to_dict()))
    assert (read["width"], read["height"], len(read["objects"])) == (200, 150, 20)
    first = read["objects"][0]
    left, top, right, bottom = found.boxes[0].tolist()
    assert first["box"] == [left, top, right, bottom] and first["bbox"] == [left, top, right - left, bottom - top]
    assert first["name"] == found.names[0] and first["score"] == found.scores[0]
    assert found.to_dict(1.1)["objects"] == []


def test_a_picture_without_objects_is_a_prediction_too(predictor, rgb):
    found = predictor(rgb, score_thr=2)
    assert found.boxes.shape == (0, 4) and found.names == [] and (found.draw() == rgb).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (700, 2)])
def test_pictures_of_odd_shapes_are_taken(predictor, size):
    found = predictor(np.zeros((*size, 3), np.uint8))
    assert found.draw().shape == (*size, 3)


def test_batch_norm_and_drop_out_are_off_and_nothing_is_recorded(predictor, rgb):
    assert not predictor.model.training
    boxes = predictor(rgb).pred_instances.bboxes
    assert not boxes.requires_grad
    boxes += 1  # an ordinary tensor
    assert same(predictor(rgb), predictor(rgb))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((5, 5, 3), np.float32), "must be uint8"),
        (np.zeros((5, 5, 2), np.uint8), "not of shape"),
        (np.zeros((0, 5, 3), np.uint8), "not of shape"),
        ("nowhere.jpg", "does not exist"),
        (b"", "empty"),
        (b"no picture", "cannot be decoded"),
    ],
)
def test_what_is_no_image_is_refused_with_one_sentence(predictor, image, said):
    with pytest.raises(DataError, match=said):
        predictor(image)


def test_what_is_missing_is_named(files, tmp_path):
    with pytest.raises(ConfigError, match="needs a config and weights"):
        Predictor()
    with pytest.raises(CheckpointError, match="needs weights"):
        Predictor(files / "config.py")
    with pytest.raises(ConfigError, match="device 'cuda:99'"):
        Predictor(files / "config.py", files / "weights.pth", "cuda:99")
    with pytest.raises(CheckpointError, match="no configuration"):
        Predictor(weights=files / "weights.pth")
    saved = torch.load(files / "weights.pth", weights_only=True)
    torch.save({"state_dict": saved["state_dict"]}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth does not state its classes"):
        Predictor(files / "config.py", tmp_path / "bare.pth")
    saved["state_dict"].pop("head.retina_cls.bias")
    torch.save(saved, tmp_path / "torn.pth")
    with pytest.raises(CheckpointError, match=r"torn\.pth"):
        Predictor(files / "config.py", tmp_path / "torn.pth")


def test_classes_of_a_bare_file_of_weights_come_from_the_config(files, tmp_path, rgb):
    saved = torch.load(files / "weights.pth", weights_only=True)
    torch.save(saved["state_dict"], tmp_path / "bare.pth")
    text = CONFIG.replace('type="DensePredictor",', 'type="DensePredictor", classes=("a", "b", "c"),')
    (tmp_path / "config.py").write_text(text)
    assert set(Predictor(tmp_path / "config.py", tmp_path / "bare.pth", "cpu")(rgb).names) <= {"a", "b", "c"}


def test_a_checkpoint_with_its_configuration_is_enough(files, predictor, tmp_path, rgb):
    saved = torch.load(files / "weights.pth", weights_only=True)
    saved["meta"]["cfg"] = CONFIG
    torch.save(saved, tmp_path / "whole.pth")
    alone = Predictor(weights=tmp_path / "whole.pth", device="cpu")
    assert alone.classes == CLASSES
    assert same(alone(rgb), predictor(rgb))


def test_images_of_a_file_a_folder_and_a_pattern(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in images_under(str(tmp_path))] == ["a.PNG", "b.jpg"]
    assert [p.name for p in images_under(str(tmp_path / "*.jpg"))] == ["b.jpg"]
    assert [p.name for p in images_under(str(tmp_path / "**/*.jpg"))] == ["b.jpg", "c.jpg"]
    assert images_under(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "none.jpg", tmp_path / "*.bmp"):
        with pytest.raises(DataError, match=f"{nothing.name}".replace("*", r"\*")):
            images_under(str(nothing))


def test_several_looks_are_averaged_whatever_the_way_to_the_image(files, rgb):
    text = (
        CONFIG[: CONFIG.index("head=")]
        + 'head=dict(type="SemanticFPNHead", channels=8))\n'
        + CONFIG[CONFIG.index("test_dataloader") :]
    )
    (files / "pixels.py").write_text(text)
    settings = Config.fromfile(files / "pixels.py").model
    settings.backbone.pop("init_cfg")
    torch.manual_seed(1)
    model = MODELS.build(dict(settings, classes=CLASSES))
    torch.nn.init.normal_(model.head.cls_pred.weight, std=3.0)
    colors = [(200, 30, 40), (20, 210, 60), (50, 70, 220)]  # red, green, blue
    meta = {"dataset_meta": {"classes": CLASSES, "palette": colors}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, files / "pixels.pth")
    predictor = Predictor(files / "pixels.py", files / "pixels.pth", "cpu")
    once, looks = predictor(rgb), predictor(rgb, scales=(0.5, 1, 1.5), flip=True)
    assert looks.semantic.shape == rgb.shape[:2] and (looks.semantic != once.semantic).any()
    both = list(predictor.batch([rgb, rgb[:90], rgb], scales=(0.5, 1, 1.5), flip=True))
    assert all(np.array_equal(both[i].semantic, looks.semantic) for i in (0, 2)) and both[1].semantic.shape[0] == 90
    flipped = predictor(np.ascontiguousarray(rgb[:, ::-1]), scales=(0.5, 1, 1.5), flip=True)
    assert (flipped.semantic[:, ::-1] != looks.semantic).mean() < 1e-2
    assert predictor(rgb, tile=100, flip=True).semantic.shape == rgb.shape[:2]
    legend = looks.draw()[rgb.shape[0] :].reshape(-1, 3)
    for label, color in enumerate(colors):
        assert (legend == color).all(1).any() == (label in looks.semantic)
    assert sum(looks.to_dict()["classes"].values()) == pytest.approx(1)


def test_looks_at_objects_cannot_be_averaged(predictor, rgb):
    with pytest.raises(ConfigError, match="predicts none: look at images as they are, without scales and flip"):
        predictor(rgb, flip=True)


WAYS = [bytes, bytearray, memoryview, io.BytesIO, Path, str, Path.open, Image.open, np.asarray]


@pytest.mark.parametrize("kind", WAYS)
def test_an_image_is_the_same_by_every_way_in(predictor, files, rgb, kind):
    path = files / "picture.png"
    if kind in (Path, str, Image.open):
        source = kind(path)
    elif kind is Path.open:
        source = path.open("rb")
    else:
        source = kind(rgb if kind is np.asarray else path.read_bytes())
    found = predictor(source)
    assert np.array_equal(found.image, rgb) and same(found, predictor(rgb))
    assert found.img_path == (str(path) if kind in (Path, str) else None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_applied_to_pillows_images_as_to_files(predictor, rgb, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "e.png", exif=exif)
    with Image.open(tmp_path / "e.png") as opened:
        file, image = predictor(tmp_path / "e.png"), predictor(opened)
        assert opened.size == rgb.shape[1::-1]  # the caller's own is not turned
    assert np.array_equal(file.image, image.image) and same(file, image)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "None is no image: cv2.imread gives it"),
        (np.zeros((3, 20, 30), np.uint8), "transpose it, channels last"),
        (np.zeros((20, 30), bool), "must be uint8"),
        (np.zeros((20, 30), np.uint16), "must be uint8"),
        ([[1, 2], [3]], "list cannot be taken as an image"),
        (torch.zeros(20, 30, 3, requires_grad=True), "Tensor cannot be taken as an image"),
        (torch.zeros(3, 20, 30, dtype=torch.uint8), "transpose it, channels last"),
        (7, "must be uint8"),
        ("", "is a folder|does not exist"),
        (Image.new("F", (20, 30)), "32 bits"),
        (Image.new("I", (20, 30)), "32 bits"),
        (io.BytesIO(), "empty"),
        (io.StringIO("text"), "mode 'rb'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_an_image_is_refused_with_one_sentence(predictor, image, said):
    with pytest.raises(DataError, match=said) as error:
        predictor(image)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_what_of_a_folder_is_not_used_is_counted_and_named(tmp_path):
    for name in ("a.jpg", "b.jfif", "c.avif", "notes.txt", "clip.mp4", ".hidden"):
        (tmp_path / name).write_bytes(b"1")
    images = images_under(str(tmp_path))
    assert [p.name for p in images] == ["a.jpg", "b.jfif", "c.avif"]
    assert left_out(str(tmp_path), images) == (
        f"Not used: 2 of the files in {tmp_path} (no images by their ending): clip.mp4, notes.txt"
    )
    assert left_out(str(tmp_path / "a.jpg"), images) == ""

"""Promises 16 to 20 of docs/reliability.md: images, boxes, masks, class maps and depth as people have them."""

import io

import cv2
import numpy as np
import pytest
import tiny
import torch
from commands import refused_last, run
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from short_runs import train, write_config
from tiny_coco import edit_annotations, make_tiny_coco, tiny_dataset
from tiny_depth import make_tiny_depth, put_depth, tiny_depth, tiny_depth_dataset
from tiny_semantic import make_tiny_semantic, tiny_semantic_dataset

from densevit import Predictor
from densevit.datasets.io.image import read_image
from densevit.errors import DataError
from densevit.models.losses.depth import DepthL1Loss, SILogLoss
from densevit.registry import DATASETS, MODELS


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """A tiny detector with random weights."""
    torch.manual_seed(0)
    config = tiny.model_config()
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save({"state_dict": MODELS.build(dict(config)).state_dict()}, path)
    return Predictor(Config(dict(model=config)), path, "cpu")


@pytest.fixture(scope="module")
def picture():
    """A smooth color picture, RGB (48, 64, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)


def encoded(image: Image.Image, form: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


BROKEN = {
    "0 bytes": lambda jpeg, png: b"",
    "truncated JPEG": lambda jpeg, png: jpeg[: len(jpeg) // 2],
    "JPEG without its end": lambda jpeg, png: jpeg[:-2],
    "truncated PNG": lambda jpeg, png: png[: len(png) // 2],
    "a web page": lambda jpeg, png: b"<!doctype html><title>404</title>",
    "zeros": lambda jpeg, png: bytes(5000),
}


@pytest.mark.parametrize("kind", ["missing", *BROKEN])
def test_a_broken_image_is_one_sentence_with_its_name_by_every_way_in(tmp_path, root, predictor, picture, kind):
    """(16) The reader, Predictor, a dataset's item, and the data check, which exits with 2."""
    make_tiny_coco(tmp_path, train=3, val=1)
    victim = sorted((tmp_path / "train2017").iterdir())[1]
    dataset = DATASETS.build(tiny_dataset(tmp_path))
    dataset.full_init()
    if kind == "missing":
        victim.unlink()
    else:
        image = Image.fromarray(picture)
        victim.write_bytes(BROKEN[kind](encoded(image, "JPEG"), encoded(image, "PNG")))
    for way_in in (read_image, predictor, lambda _: dataset[1]):
        with pytest.raises(DataError) as caught:
            way_in(victim)
        assert victim.name in str(caught.value) and "\n" not in str(caught.value)
    done = run(root, "check_data.py", "pvt_retinanet_coco", "--data-root", tmp_path)
    assert done.returncode == 2 and victim.name in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def sixteen_bits(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1].astype(np.uint16) * 257)[1].tobytes()


def turned(picture: np.ndarray) -> bytes:
    """Stored lying on its side, with the EXIF note that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(np.ascontiguousarray(np.rot90(picture))), "JPEG", quality=98, exif=exif)


USED = {
    "JPEG": (lambda p: encoded(Image.fromarray(p), "JPEG", quality=98), False),
    "CMYK": (lambda p: encoded(Image.fromarray(p).convert("CMYK"), "JPEG", quality=98), False),
    "gray": (lambda p: encoded(Image.fromarray(p).convert("L"), "PNG"), True),
    "RGBA": (lambda p: encoded(Image.fromarray(p).convert("RGBA"), "PNG"), False),
    "16 bits": (sixteen_bits, False),
    "EXIF turned": (turned, False),
}


@pytest.mark.parametrize("kind", USED)
def test_every_kind_of_image_is_the_same_picture_by_every_way_in(tmp_path, predictor, picture, kind):
    """(16) By path, by its bytes and, where Pillow holds it, as Pillow's image."""
    write, gray = USED[kind]
    data = write(picture)
    (tmp_path / "image").write_bytes(data)
    wanted = np.asarray(Image.fromarray(picture).convert("L").convert("RGB") if gray else picture).astype(int)
    for source in (tmp_path / "image", data, Image.open(io.BytesIO(data))):
        if kind == "16 bits" and isinstance(source, Image.Image):
            continue  # Pillow itself makes 8 bits of a color PNG, in its own way
        found = predictor(source).image.astype(int)
        assert found.shape == wanted.shape and np.abs(found - wanted).mean() < 3, type(source)


LEFT_OUT = {
    "outside": dict(bbox=[500, 500, 10, 10]),
    "no area": dict(bbox=[10, 10, 0, 5]),
    "thinner than a pixel": dict(bbox=[10, 10, 0.4, 5]),
}
REFUSED = {
    "NaN": dict(bbox=[float("nan"), 1, 5, 5]),
    "infinite": dict(bbox=[1, 1, float("inf"), 5]),
    "negative size": dict(bbox=[1, 1, "5", 5]),
    "three numbers": dict(bbox=[1, 1, 5]),
    "unknown category": dict(category_id=99),
    "unknown image": dict(image_id=99),
    "the id of another": dict(id=2),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_box_that_shows_nothing_is_left_out_and_counted(tmp_path, monkeypatch, kind):
    """(17) As in mmdetection; the count is printed."""
    make_tiny_coco(tmp_path)
    sizes, printed = [], []
    monkeypatch.setattr("densevit.datasets.coco.print_log", lambda text, **_: printed.append(text))
    for change in ({}, LEFT_OUT[kind]):
        edit_annotations(tmp_path, lambda content, change=change: content["annotations"][0].update(change))
        dataset = DATASETS.build(tiny_dataset(tmp_path))
        dataset.full_init()
        sizes.append(sum(len(dataset[i]["data_samples"].gt_instances) for i in range(len(dataset))))
    assert sizes[1] == sizes[0] - 1
    assert "left out" not in printed[0] and "1 boxes" in printed[1] and "left out" in printed[1]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_mistake_in_the_annotations_is_named_before_training(tmp_path, root, kind):
    """(17) With the annotation's id, by the dataset and by the command."""
    config = write_config(tmp_path)
    edit_annotations(tmp_path / "data", lambda content: content["annotations"][0].update(REFUSED[kind]))
    text = refused_last(run(root, "train.py", config, "--work-dir", tmp_path / "run"))
    assert "annotation" in text and ("1" in text or "2" in text)
    assert not list((tmp_path / "run").glob("*.pth"))


def other_form(annotation: dict, form: str) -> None:
    """Writes an annotation's polygons as run lengths."""
    if form != "polygons" and isinstance(annotation["segmentation"], list):
        rle = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], 40, 56))
        flat = coco_mask.decode(rle).ravel(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int)])))
        runs = np.diff([0, *edges, flat.size]).tolist()
        counts = rle["counts"].decode() if form == "compressed" else runs
        annotation["segmentation"] = dict(size=[40, 56], counts=counts)


def test_crowds_masks_of_every_form_and_ids_with_holes_are_what_the_file_says(tmp_path):
    """(17) Crowds are ignore regions; polygons and both forms of RLE are one mask; labels give the file's ids back."""
    make_tiny_coco(tmp_path, crowds=8, size=(40, 56))
    masks = {}
    for form in ("polygons", "uncompressed", "compressed"):
        make_tiny_coco(tmp_path, crowds=8, size=(40, 56))
        edit_annotations(tmp_path, lambda content, form=form: [other_form(a, form) for a in content["annotations"]])
        dataset = DATASETS.build(tiny_dataset(tmp_path, with_masks=True))
        dataset.full_init()
        samples = [dataset[i]["data_samples"] for i in range(len(dataset))]
        assert all(len(sample.ignored_instances) == 1 for sample in samples)
        assert dataset.metainfo["cat_ids"] == (1, 3, 5)
        masks[form] = [torch.as_tensor(sample.gt_instances.masks) for sample in samples]
        assert all(torch.equal(a, b) for a, b in zip(masks["polygons"], masks[form], strict=True))
    assert sum(mask.sum() for mask in masks["polygons"]) > 0


def test_images_without_objects_train_and_score_and_a_set_of_them_alone_is_refused(tmp_path, root):
    """(18) Images without objects are kept; nothing to learn at all is an error before training."""
    (tmp_path / "some").mkdir()
    config = write_config(tmp_path / "some", train=4, val=2, empty=3)
    runner = train(config, tmp_path / "some" / "run", train_cfg__max_epochs=1, train_dataloader__batch_size=1)
    assert runner.iter == 4
    assert all(v.isfinite().all() for v in runner.bare_model.state_dict().values())
    (tmp_path / "none").mkdir()
    config = write_config(tmp_path / "none", train=3, val=2, empty=3)
    text = refused_last(run(root, "train.py", config, "--work-dir", tmp_path / "none" / "run"))
    assert "instances_train2017.json" in text and not list((tmp_path / "none").glob("run/*.pth"))


@pytest.mark.parametrize("value", [3, 17, 254])
def test_a_value_that_is_no_class_names_its_file_and_itself_before_training(tmp_path, root, value):
    """(19) By the dataset, before a step is trained."""
    make_tiny_semantic(tmp_path)
    path = tmp_path / "labels" / "train" / "train_002.png"
    classes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    classes[5, 5] = value
    cv2.imwrite(str(path), classes)
    dataset = DATASETS.build(tiny_semantic_dataset(tmp_path))
    with pytest.raises(DataError) as caught:
        dataset.full_init()
        [dataset[i] for i in range(len(dataset))]
    assert "train_002.png" in str(caught.value) and str(value) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", [SILogLoss(), DepthL1Loss()], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("hole", [0.0, float("nan"), float("inf"), -1.0])
def test_holes_of_depth_neither_teach_nor_score(tmp_path, hole, loss):
    """(20) 0, NaN, infinity and what lies behind the camera."""
    depth = tiny_depth(0)
    depth[depth == 0] = 1.0
    with_hole = depth.copy()
    with_hole[10:20, 10:20] = hole
    make_tiny_depth(tmp_path, count=1)
    (tmp_path / "depth" / "000.png").unlink()
    np.save(tmp_path / "depth" / "000.npy", with_hole)
    dataset = DATASETS.build(tiny_depth_dataset(tmp_path, depth_scale=None, depth_suffix=".npy"))
    dataset.full_init()
    read = dataset[0]["data_samples"].gt_depth
    assert not (read[10:20, 10:20] > 0).any() and torch.equal(read[20:], torch.from_numpy(depth[20:]))
    predicted = torch.full((1, *read.shape), 2.0, requires_grad=True)
    loss(predicted, read[None]).backward()
    assert predicted.grad[0, 10:20, 10:20].abs().max() == 0 and predicted.grad.isfinite().all()
    assert predicted.grad.abs().sum() > 0


@pytest.mark.parametrize(("unit", "scale"), [("kitti", 256), ("nyu", 1000), (1000, 1000), (5000.0, 5000)])
def test_stored_depth_is_divided_by_its_unit(tmp_path, unit, scale):
    """(20) KITTI's 16-bit PNG hold 1/256 m, NYU's millimeters."""
    make_tiny_depth(tmp_path, count=2)
    wanted = tiny_depth(0)
    put_depth(tmp_path / "depth" / "000.png", wanted, scale)
    put_depth(tmp_path / "depth" / "001.png", tiny_depth(1), scale)
    dataset = DATASETS.build(tiny_depth_dataset(tmp_path, depth_scale=unit))
    dataset.full_init()
    found = dataset[0]["data_samples"].gt_depth
    np.testing.assert_allclose(found, wanted, atol=0.51 / scale)
    assert ((found == 0).numpy() == (wanted == 0)).all()

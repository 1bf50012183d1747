"""Depth into space and PLY files: against projection by hand, the renderer's own camera, and a plain reader."""

import json
import struct

import numpy as np
import pytest

from densevit.datasets.scenes import SEMANTIC_CLASSES, render
from densevit.datasets.scenes.layout import sample_camera
from densevit.errors import DataError
from densevit.ops.point_cloud import Intrinsics, point_cloud, read_intrinsics, stride_for, write_ply

CAMERA = (500.0, 520.0, 30.5, 21.25)


def some_pixels(size=(40, 60)):
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 9.5, size).astype(np.float32)
    depth[rng.random(size) < 0.3] = 0
    return depth, rng.integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("stride", [1, 3])
def test_each_point_is_its_pixel_taken_back_by_hand(stride):
    depth, image = some_pixels()
    points, colors = point_cloud(depth, image, CAMERA, stride)
    assert points.dtype == np.float32 and colors.dtype == np.uint8
    fx, fy, cx, cy = CAMERA
    location = 0
    for row in range(0, 40, stride):
        for column in range(0, 60, stride):
            z = float(depth[row, column])
            if z > 0:
                expected = ((column - cx) * z / fx, (row - cy) * z / fy, z)
                assert points[location] == pytest.approx(expected, rel=1e-5)
                assert (colors[location] == image[row, column]).all()
                location += 1
    assert location == len(points) == len(colors)


def test_points_project_back_onto_their_pixels():
    depth, image = some_pixels()
    points, _ = point_cloud(depth, image, CAMERA)
    matrix = np.array([[500, 0, 30.5], [0, 520, 21.25], [0, 0, 1]])
    pixels = points @ matrix.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    np.testing.assert_allclose(pixels, np.argwhere(depth > 0)[:, ::-1], atol=1e-3)


def test_what_is_no_positive_number_gives_no_point():
    depth = np.array([[1.0, 0, -1], [np.nan, np.inf, -np.inf]], np.float32)
    points, colors = point_cloud(depth, np.zeros((2, 3, 3), np.uint8), (1, 1, 1, 1))
    assert points.tolist() == [[-1, -1, 1]] and colors.shape == (1, 3)
    points, colors = point_cloud(np.zeros((2, 3)), np.zeros((2, 3, 3), np.uint8), (1, 1, 1, 1))
    assert points.shape == colors.shape == (0, 3)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_floor_of_a_rendered_scene_lies_as_deep_as_its_cameras_eye_is_high(index):
    scene = render(4, index, (128, 160))
    camera = sample_camera(np.random.Generator(np.random.PCG64([4, index])), 128, 160)
    # the renderer's pixel (u, v) begins at (u, v), and here it has its middle there
    intrinsics = (camera.focal, camera.focal, camera.u0 - 0.5, camera.v0 - 0.5)
    points, _ = point_cloud(scene.depth, scene.image, intrinsics)
    assert len(points) == (scene.depth > 0).sum()
    names = [name for name in ("floor", "ground", "grass", "pavement") if name in SEMANTIC_CLASSES]
    floor = np.isin(scene.semantic[scene.depth > 0] - 1, [SEMANTIC_CLASSES.index(name) for name in names])
    assert floor.sum() > 500
    np.testing.assert_allclose(points[floor, 1], camera.eye, rtol=1e-3)


@pytest.mark.parametrize(
    ("intrinsics", "words"),
    [
        ((500, 500, 30), "four numbers"),
        ((500, float("nan"), 30, 20), "four numbers"),
        ((0, 500, 30, 20), "positive"),
        ((500, -500, 30, 20), "positive"),
        ((500, 500, 320, 240), "outside of an image of 60x40 pixels: .* multiply"),
        ((500, 500, -3, 20), "outside"),
    ],
)
def test_intrinsics_of_no_camera_or_of_another_size_are_refused(intrinsics, words):
    with pytest.raises(DataError, match=words):
        point_cloud(*some_pixels(), intrinsics)


def test_depth_of_another_size_than_the_image_is_refused():
    depth, image = some_pixels()
    with pytest.raises(DataError, match="59x40 pixels does not lie on an image of 60x40"):
        point_cloud(depth[:, :-1], image, CAMERA)


@pytest.mark.parametrize("size", [(10, 10), (480, 640), (3000, 4000), (1, 5_000_000)])
@pytest.mark.parametrize("most", [1, 100, 1_000_000])
def test_the_stride_is_the_least_that_keeps_the_limit(size, most):
    def count(stride):
        return len(range(0, size[0], stride)) * len(range(0, size[1], stride))

    stride = stride_for(size, most)
    assert count(stride) <= most and (stride == 1 or count(stride - 1) > most)


def read_ply(path):
    """A plain reader: property by property, number by number."""
    data = path.read_bytes()
    head, body = data.split(b"end_header\n", 1)
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[2])
    properties = [line.split()[1:] for line in lines if line.startswith("property")]
    assert [name for _, name in properties] == ["x", "y", "z", "red", "green", "blue"]
    form = "<" + "".join({"float": "f", "uchar": "B"}[kind] for kind, _ in properties)
    assert len(body) == count * struct.calcsize(form)
    return [struct.unpack_from(form, body, n * struct.calcsize(form)) for n in range(count)]


def test_a_ply_file_read_by_a_plain_reader_gives_the_points_back(tmp_path):
    points, colors = point_cloud(*some_pixels(), CAMERA)
    write_ply(tmp_path / "new" / "a.ply", points, colors)
    read = read_ply(tmp_path / "new" / "a.ply")
    assert np.array_equal(np.array([row[:3] for row in read], np.float32), points)
    assert np.array_equal(np.array([row[3:] for row in read]), colors)
    write_ply(tmp_path / "none.ply", points[:0], colors[:0])
    assert read_ply(tmp_path / "none.ply") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_ply(tmp_path / "file" / "a.ply", points, colors)


MATRIX = [[500, 0, 30.5], [0, 520, 21.25], [0, 0, 1]]


@pytest.mark.parametrize(
    "text",
    [
        "500 520 30.5 21.25",
        "500, 520,\n30.5, 21.25\n",
        "500 0 30.5\n0 520 21.25\n0 0 1\n",
        "5.0e+02 0 30.5 -45.0 0 520 21.25 0.2 0 0 1 0.005",
        "P0: 1 2 3\nP2: 500 0 30.5 45 0 520 21.25 -0.3 0 0 1 0.005\nR0_rect: 1",
        "calib_time: 09-Jan\nP_rect_02: 500 0 30.5 45 0 520 21.25 -0.3 0 0 1 0.005\n",
        json.dumps(dict(fx=500, fy=520, cx=30.5, cy=21.25, width=60)),
        json.dumps([500, 520, 30.5, 21.25]),
        json.dumps(MATRIX),
        json.dumps({"K": MATRIX}),
        json.dumps({"intrinsics": dict(fx=500, fy=520, cx=30.5, cy=21.25)}),
        json.dumps({"intrinsic_matrix": np.array(MATRIX).T.ravel().tolist(), "width": 60}),
    ],
)
def test_intrinsics_are_read_in_the_forms_that_there_are(tmp_path, text):
    (tmp_path / "camera").write_text(text)
    assert read_intrinsics(tmp_path / "camera") == Intrinsics(*CAMERA)


@pytest.mark.parametrize(
    "text", ["", "500 520 30.5", "a b c d", "{}", "3", '{"K": "x"}', "[[1, 2], [3]]", "1 2 3 4 5 6 7 8 9", "null"]
)
def test_files_without_intrinsics_are_one_sentence(tmp_path, text):
    (tmp_path / "camera.txt").write_text(text)
    with pytest.raises(DataError, match=r"camera\.txt states no intrinsics: write fx fy cx cy"):
        read_intrinsics(tmp_path / "camera.txt")


def test_files_that_cannot_be_read_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_intrinsics(tmp_path / "nowhere.txt")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match="cannot be read: it is no text"):
        read_intrinsics(tmp_path / "picture.png")


def test_a_real_calibration_file(shared):
    folder = shared / "data" / "kitti_sample"
    if not folder.is_dir():
        pytest.skip("no KITTI sample")
    for entry in json.loads((folder / "info.json").read_text()):
        path = folder / "calib" / f"{entry['name']}.txt"
        if path.is_file():
            assert read_intrinsics(path) == pytest.approx(entry["intrinsics_fx_fy_cx_cy"])

"""Random and damaged files for every reader, in a process of its own: python fuzz.py FOLDER SECONDS EXAMPLES SEED.

A reader gives a result or a UserError. Another exception, a signal, more than 2 GB or more than 20 seconds is a fault.
Prints a line of JSON a reader. Seed 0 means the same examples each time.
"""

import contextlib
import copy
import faulthandler
import gc
import io
import json
import logging
import pickle
import resource
import struct
import sys
import time
import traceback
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_coco import make_tiny_coco, tiny_dataset

import densevit.models  # noqa: F401
from densevit import import_model, load_weights
from densevit.checkpoints.reading import read_file
from densevit.converters.sources.mmdet import ConfigText
from densevit.datasets.io.image import read_image
from densevit.engine.config import parse_options, read_config
from densevit.errors import UserError
from densevit.metrics.coco_eval import evaluate_coco
from densevit.registry import DATASETS

FOLDER = Path(sys.argv[1])
LIMIT = 2 * 2**30
EXAMPLE_SECONDS = 20

numbers = st.one_of(
    st.integers(-5, 200),
    st.integers(),
    st.floats(),
    st.floats(-100, 300),
    st.sampled_from([0, -0.0, 1e300, 3e8, -3e8, 2**31, 2**63, 2**64, 10**400, 1e-320, float("nan"), float("inf")]),
)
texts = st.one_of(
    st.text(max_size=8), st.sampled_from(["", "0", "../../x", "/etc/passwd", "\x1b[31m", "a\x00b", "NaN"])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
polygon = st.lists(numbers, max_size=14)
polygons = st.one_of(
    st.lists(polygon, max_size=3), st.lists(st.lists(st.tuples(numbers, numbers), max_size=4), max_size=2)
)
sides = st.one_of(st.just([40, 56]), st.lists(st.integers(-1, 2**33), max_size=3), junk)
letters = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30)
counts = st.one_of(letters, st.lists(st.integers(-3, 3000), max_size=9), st.lists(numbers, max_size=5), texts, junk)
whole = st.lists(st.integers(0, 500), max_size=4).map(lambda runs: [*runs, 40 * 56 - sum(runs)])
run_lengths = st.fixed_dictionaries({"size": sides, "counts": st.one_of(whole, counts)})
segmentations = st.one_of(polygons, run_lengths, junk)


def locations(value, location=()) -> list[tuple]:
    """The ways to every part of nested lists and dicts."""
    found = [location] if location else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += locations(inner, (*location, key))
    return found


@st.composite
def changed(draw, valid, replacements=junk):
    """A valid document with a few parts replaced, left out or doubled."""
    content = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(0, 4))):
        ways = locations(content)
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        part = content
        for step in way:
            part = part[step]
        what = draw(st.integers(0, 4))
        if what == 0:
            del part[last]
        elif what == 1 and isinstance(part, list):
            part.append(part[last])
        else:
            part[last] = copy.deepcopy(draw(replacements))
    return content


extremes = st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])


@st.composite
def damaged(draw, files: list[bytes]) -> bytes:
    """A file with some bytes replaced, inserted or cut off."""
    content = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 6))):
        if not content:
            break
        # most of what a reader decides on stands at the beginning
        location = draw(st.one_of(st.integers(0, len(content) - 1), st.integers(0, min(200, len(content) - 1))))
        what = draw(st.integers(0, 4))
        if what == 0:
            del content[location:]
        elif what == 1:
            content[location:location] = draw(st.binary(max_size=6))
        elif what == 2:
            content[location : location + 4] = draw(
                st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
            )
        else:
            content[location] = draw(st.integers(0, 255))
    return bytes(content)


def dataset_of(content: dict, **options) -> None:
    """Everything that a training reads of an annotation file."""
    (FOLDER / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    pipeline = [
        dict(type="LoadImage"),
        dict(type="LoadAnnotations", with_masks=True),
        dict(type="Resize", scale=(90, 60)),
    ]
    pipeline += [dict(type="RandomFlip", prob=1.0), dict(type="RandomCrop", size=(30, 30), allow_empty=True)]
    pipeline += [dict(type="PackSample")]
    dataset = DATASETS.build(tiny_dataset(FOLDER, with_masks=True, pipeline=pipeline, **options))
    dataset.full_init()
    for i in range(len(dataset)):
        sample = dataset[i]["data_samples"]
        assert torch.isfinite(torch.as_tensor(sample.gt_instances.bboxes)).all()


def coco(content: dict) -> None:
    try:
        dataset_of(content)
    finally:
        evaluate_coco(content, [], ["bbox", "segm"])


make_tiny_coco(FOLDER, train=3, val=1, size=(40, 56), crowds=1)
VALID = json.loads((FOLDER / "annotations" / "instances_train2017.json").read_text())
VALID["annotations"] = VALID["annotations"][:4]


def with_segmentation(segmentation) -> dict:
    content = json.loads(json.dumps(VALID))
    content["annotations"][1]["segmentation"] = segmentation
    content["annotations"][1]["iscrowd"] = int(isinstance(segmentation, dict))
    return content


def results(records: list) -> None:
    evaluate_coco(VALID, records, ["bbox", "segm"])


RESULTS = [dict(image_id=a["image_id"], category_id=a["category_id"], bbox=a["bbox"], score=0.5,
                segmentation=dict(size=[40, 56], counts="0P10n5")) for a in VALID["annotations"]]  # fmt: skip


def encoded(form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()


IMAGES = [encoded(form) for form in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")]
IMAGES += [encoded("TIFF", compression="tiff_deflate"), encoded("JPEG", progressive=True)]


def repaired(content: bytes) -> bytes:
    """A PNG whose checksums fit what it holds, so that a reader looks at its content."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        return content
    found, location = bytearray(content[:8]), 8
    while location + 12 <= len(content):
        (length,) = struct.unpack(">I", content[location : location + 4])
        body = content[location + 4 : location + 8 + min(length, len(content))]
        found += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        location += 12 + length
    return bytes(found)


def image(content: bytes) -> None:
    for source in (content, repaired(content)):
        found = read_image(source)
        assert found.dtype == np.uint8 and found.ndim == 3


def png_of(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


MAPS = [png_of(np.arange(48, dtype=np.uint8).reshape(6, 8) % 3), png_of(np.ones((6, 8), np.uint16)), IMAGES[1]]
NO_CLASS = png_of(np.full((6, 8), 255, np.uint8))
CLASS_FILES = [b"ground\ndisc\nbar\n", b"a 1 2 3\nb 4 5 6\n", "\ufeffeins\nzw\u00f6lf\n".encode(), b"# c\nx:1,2,3::\n"]
CLASS_FILES += [b'["a", "b"]', b'{"a": 0, "b": 1}', b'[{"name": "a", "color": [1, 2, 3]}]']


def class_map(files: tuple[bytes, bytes, str]) -> None:
    maps, classes, suffix = files
    for folder in ("images", "labels"):
        (FOLDER / "maps" / folder).mkdir(parents=True, exist_ok=True)
    (FOLDER / "maps" / "images" / "a.png").write_bytes(png_of(np.zeros((6, 8, 3), np.uint8)))
    (FOLDER / "maps" / "labels" / "a.png").write_bytes(repaired(maps))
    file = FOLDER / "maps" / f"classes{suffix}"
    file.write_bytes(classes)
    steps = [dict(type="densevit.LoadImage"), dict(type="densevit.LoadAnnotations"), dict(type="densevit.PackSample")]
    prefix = dict(img="images", seg="labels")
    config = dict(
        type="densevit.SemanticDataset", classes=str(file), data_root=str(FOLDER / "maps"), data_prefix=prefix
    )
    dataset = DATASETS.build(dict(config, pipeline=steps))
    dataset.full_init()
    found = dataset[0]["data_samples"].gt_semantic
    assert ((found == 255) | (found < len(dataset.metainfo["classes"]))).all()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


EXR = sorted((Path(__file__).parents[1] / "data" / "depth").glob("*.exr"))
DEPTH = [(".png", png_of(np.full((6, 8), 1500, np.uint16))), (".npy", npy(np.ones((6, 8), np.float32)))]
DEPTH += [(".npy", npy(np.ones((6, 8, 1), np.float64))), (".npy", npy(np.ones((6, 8), dtype=">i4")))]
DEPTH += [(".exr", path.read_bytes()) for path in EXR]


def depth(file: tuple[str, bytes]) -> None:
    suffix, content = file
    root = FOLDER / "depth"
    for folder in ("rgb", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "rgb" / "a.png").write_bytes(png_of(np.zeros((6, 8, 3), np.uint8)))
    (root / "depth" / f"a{suffix}").write_bytes(repaired(content))
    steps = [dict(type="densevit.LoadImage"), dict(type="densevit.LoadAnnotations"), dict(type="densevit.PackSample")]
    config = dict(type="densevit.DepthDataset", data_root=str(root), data_prefix=dict(img="rgb", depth="depth"))
    dataset = DATASETS.build(dict(config, depth_scale=1000, depth_suffix=suffix, pipeline=steps))
    dataset.full_init()
    found = dataset[0]["data_samples"].gt_depth
    assert torch.isfinite(found).all() and (found >= 0).all()


names = st.sampled_from(["a", "lr", "dict", "list", "range", "type", "model", "__import__", "x", "open", "True"])
literals = st.one_of(numbers.map(repr), texts.map(repr), names)


operators = st.sampled_from(["*", "**", "+", "-", "/", "//", "%", "<<", "|", " if 1 else "])


def combined(inner):
    pairs = st.tuples(inner, inner)
    return st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: "[" + ", ".join(parts) + "]"),
        st.lists(inner, max_size=4).map(lambda parts: "(" + "".join(f"{p}, " for p in parts) + ")"),
        st.lists(st.tuples(names, inner), max_size=3).map(
            lambda p: "dict(" + ", ".join(f"{k}={v}" for k, v in p) + ")"
        ),
        st.lists(pairs, max_size=3).map(lambda p: "{" + ", ".join(f"{k}: {v}" for k, v in p) + "}"),
        st.tuples(inner, st.sampled_from(["*", "**", "+", "-", "/", "//", "%", "<<", "|", " if 1 else "]), inner).map(
            " ".join
        ),
        pairs.map(lambda p: f"{p[0]}({p[1]})"),
        pairs.map(lambda p: f"{p[0]}[{p[1]}]"),
        inner.map(lambda p: f"-{p}"),
        inner.map(lambda p: f"{p}.__class__"),
        inner.map(lambda p: f"[{p} for _ in range(9)]"),
        inner.map(lambda p: f"f'{{{p}}}'"),
    )


expressions = st.recursive(literals, combined, max_leaves=10)
statements = st.lists(st.tuples(names, expressions).map(lambda p: f"{p[0]} = {p[1]}"), max_size=6).map("\n".join)


def config_text(text: str) -> None:
    found = ConfigText(text, "file.pth")
    if "model" in found:
        found["model"]


def checkpoint_with(text: str) -> None:
    path = FOLDER / "carried.pth"
    torch.save({"meta": {"cfg": text}, "state_dict": {"a": torch.ones(1)}}, path)
    import_model(path)


def put(name: str, content: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(content)
    return path


ARRAYS = {"model": {"weight": np.ones((1, 1), np.float32), "bias": np.ones(1, np.float32)}, "author": "x"}
PICKLES = [pickle.dumps(ARRAYS, protocol=protocol) for protocol in (2, 3, 4, 5)]
for zipped in (True, False):
    buffer = io.BytesIO()
    torch.save(
        {"state_dict": {"a": torch.arange(6.0)}, "meta": {"n": 1}}, buffer, _use_new_zipfile_serialization=zipped
    )
    PICKLES.append(buffer.getvalue())


def weights_file(file: tuple[str, bytes]) -> None:
    suffix, content = file
    content = read_file(put(f"weights{suffix}", content), check_sums=True)
    load_weights(torch.nn.Linear(1, 1), content, strict=False)


HEADER = {
    "weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
    "bias": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    "__metadata__": {"format": "pt"},
}
dtypes = st.sampled_from(["F32", "BF16", "I64", "BOOL", "F8_E4M3", "X", "F4"])


@st.composite
def safetensors(draw) -> bytes:
    header = json.dumps(draw(changed(HEADER, st.one_of(junk, dtypes)))).encode()
    length = draw(st.one_of(st.just(len(header)), st.integers(0, 2**64 - 1), st.integers(0, 400)))
    return struct.pack("<Q", length) + header + bytes(draw(st.sampled_from([8, 8, 0, 7, 40])))


RECIPE = read_config("pvt_retinanet_scenes")._cfg_dict.to_dict()
ways = locations(json.loads(json.dumps(RECIPE)))
dotted = st.one_of(st.sampled_from([".".join(map(str, way)) for way in ways]), texts, st.just("a.b"))


def options(pairs: list[tuple[str, str]]) -> None:
    read_config("pvt_retinanet_scenes", parse_options([f"{key}={value}" for key, value in pairs]))


def config_file(file: tuple[str, str]) -> None:
    suffix, text = file
    path = FOLDER / f"config{suffix}"
    path.write_text(text, errors="surrogatepass")
    read_config(path)


yaml_texts = st.one_of(
    changed(RECIPE).map(json.dumps),
    st.text(st.sampled_from("abc:-[]{}!&*#|>'\"\n\t 0123.~?@`%"), max_size=60),
    st.sampled_from(["a: &a [*a]", "a: &a {b: *a}", "? [a]\n: b", "- 1", "a: 1\na: 2", "[" * 3000]),
)

READERS = {
    "annotations": (changed(VALID, st.one_of(junk, segmentations)), coco),
    "polygons": (polygons.map(with_segmentation), coco),
    "run lengths": (run_lengths.map(with_segmentation), coco),
    "results": (changed(RESULTS, st.one_of(junk, segmentations)), results),
    "images": (damaged(IMAGES), image),
    "class maps": (st.tuples(damaged(MAPS), st.sampled_from(CLASS_FILES[:1]), st.just(".txt")), class_map),
    "class files": (
        st.tuples(st.just(NO_CLASS), damaged(CLASS_FILES), st.sampled_from([".txt", ".json", ".csv"])),
        class_map,
    ),
    "depth": (st.sampled_from(DEPTH).flatmap(lambda f: st.tuples(st.just(f[0]), damaged([f[1]]))), depth),
    "config text": (statements, config_text),
    "carried configurations": (statements, checkpoint_with),
    "pickles": (st.tuples(st.sampled_from([".pth", ".pkl"]), damaged(PICKLES)), weights_file),
    "safetensors": (st.tuples(st.just(".safetensors"), safetensors()), weights_file),
    "options": (st.lists(st.tuples(dotted, st.one_of(expressions, texts)), min_size=1, max_size=3), options),
    "config files": (st.tuples(st.sampled_from([".json", ".yaml", ".yml"]), yaml_texts), config_file),
}


class Enough(Exception):
    """Ends the examples of a reader."""


def fuzz(name: str, seconds: float, examples: int, number: int) -> dict:
    """How many examples of a reader ran, and the first fault."""
    strategy, read = READERS[name]
    report = dict(reader=name, examples=0, refused=0, seconds=0.0, fault=None)
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def fault(example, what: str) -> None:
        report["fault"] = f"{what} in {example!r}"[:2000]

    def check(example) -> None:
        if report["fault"] or time.monotonic() - start > seconds:
            raise Enough
        report["examples"] += 1
        begun = time.monotonic()
        faulthandler.dump_traceback_later(3 * EXAMPLE_SECONDS, exit=True)
        (FOLDER / "example.txt").write_text(f"{name}: {example!r}", errors="backslashreplace")
        try:
            read(example)
        except UserError as error:
            report["refused"] += 1
            text = str(error)
            if not text.isprintable():
                fault(example, f"unprintable: {text[:300]!r}")
        except Exception as error:
            frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
            fault(example, f"{type(error).__name__}: {str(error)[:300]} ({' '.join(frames[1:3] + frames[-2:])})")
        finally:
            faulthandler.cancel_dump_traceback_later()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if grown > LIMIT:
            fault(example, f"{grown / 2**30:.1f} GB")
        if time.monotonic() - begun > EXAMPLE_SECONDS:
            fault(example, f"{time.monotonic() - begun:.0f} seconds")

    bounds = dict(max_examples=examples, deadline=None, database=None, phases=[Phase.generate])
    bounds["suppress_health_check"] = list(HealthCheck)
    test = settings(**bounds, derandomize=not number)(given(strategy)(check))
    with contextlib.suppress(Enough):
        (seed(number)(test) if number else test)()
    report["seconds"] = round(time.monotonic() - start, 1)
    return report


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    faulthandler.enable()
    logging.disable()
    gc.freeze()  # datasets collect garbage once each
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * LIMIT, size + 2 * LIMIT))
    chosen = sys.argv[5:] or list(READERS)
    for reader in chosen:
        print(json.dumps(dict(begun=reader)), flush=True)
        print(json.dumps(fuzz(reader, float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))), flush=True)

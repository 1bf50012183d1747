"""Small folders of images and labels in other formats, written by hand for tests of densevit.datasets.formats."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, width: int = 40, height: int = 20, turned: bool = False, seed: int = 0) -> Path:
    """A noisy image of a displayed size; `turned`: stored on its side, with the EXIF orientation that says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = (width, height) if turned else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, (*stored, 3), dtype=np.uint8)
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    Image.fromarray(pixels).save(path, format="PNG" if path.suffix.lower() == ".png" else "JPEG", exif=exif)
    return path


def write_text(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_yolo(root: Path, labels: dict[str, str], names: str = "[cat, dog]", **keys: str) -> Path:
    """data.yaml, images/SPLIT/*.jpg of 40 x 20 pixels and labels/SPLIT/*.txt; labels: 'train/a' -> text, or None."""
    splits = sorted({name.split("/")[0] for name in labels})
    lines = {**{split: f"images/{split}" for split in splits}, "names": names, **keys}
    write_text(root / "data.yaml", "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None))
    for seed, (name, text) in enumerate(labels.items()):
        write_image(root / f"images/{name}.jpg", seed=seed)
        if text is not None:
            write_text(root / f"labels/{name}.txt", text)
    return root


def voc_xml(*boxes: tuple, filename: str = "a.jpg", size: tuple = (40, 20), head: str = "", extra: str = "") -> str:
    """An annotation of VOC; boxes are (name, xmin, ymin, xmax, ymax)."""
    tags = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"<object><name>{name}</name>{extra}<bndbox>"
        + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
        + "</bndbox></object>"
        for name, *corners in boxes
    )
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"{head}<annotation><filename>{filename}</filename>{shape}{objects}</annotation>"


def write_voc(root: Path, labels: dict[str, str | bytes], lists: dict[str, list[str]] | None = None) -> Path:
    """Annotations/*.xml, JPEGImages/*.jpg of 40 x 20 pixels, ImageSets/Main/*.txt."""
    for seed, (name, text) in enumerate(labels.items()):
        write_image(root / f"JPEGImages/{name}.jpg", seed=seed)
        write_text(root / f"Annotations/{name}.xml", text)
    for split, names in (lists or {}).items():
        write_text(root / f"ImageSets/Main/{split}.txt", "\n".join(names))
    return root


def labelme_json(*shapes: tuple, image: str = "a.jpg", size: tuple = (40, 20)) -> str:
    """A LabelMe file; shapes are (label, kind, points) or (label, kind, points, group id)."""
    items = [
        dict(label=label, shape_type=kind, points=points, group_id=group[0] if group else None, flags={})
        for label, kind, points, *group in shapes
    ]
    content = dict(version="5.4.1", flags={}, shapes=items, imagePath=image, imageData=None)
    return json.dumps(dict(content, imageWidth=size[0], imageHeight=size[1]))


def coco_content(files: list[str], names: tuple[str, ...] = ("cat", "dog"), first_id: int = 1) -> dict:
    """COCO's instances with one box of class i in image i."""
    images = [dict(id=i, file_name=name, width=40, height=20) for i, name in enumerate(files, first_id)]
    annotations = [
        dict(id=i, image_id=i, category_id=1 + i % len(names), bbox=[5, 5, 10, 8], area=80, iscrowd=0)
        for i, _ in enumerate(files, first_id)
    ]
    return dict(
        images=images, annotations=annotations, categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)]
    )


def write_coco(path: Path, content: dict, folder: Path | None = None) -> Path:
    """An annotation file and, in `folder`, its images."""
    write_text(path, json.dumps(content))
    for seed, image in enumerate(content["images"] if folder else []):
        write_image(folder / image["file_name"], seed=seed + sum(map(ord, path.as_posix())))
    return path


def objects_of(data, split: str) -> list[tuple]:
    """(file name, class, box) of each object of a split."""
    names = {category["id"]: category["name"] for category in data.categories}
    files = {image["id"]: Path(image["file_name"]).name for image in data.splits[split].images}
    return [(files[a["image_id"]], names[a["category_id"]], a["bbox"]) for a in data.splits[split].annotations]

"""Render the embedded dataset: a COCO tree with boxes, masks, class maps and depth.

python data/make_scenes.py --out data/scenes --images 15000 --val 500
python data/make_scenes.py --stats
python data/make_scenes.py --preview scenes.png
"""

import argparse
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SAMPLE = 500  # scenes that --stats looks at where nothing is written


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number < 5_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 5 million")
    return number


def _labels(text: str) -> tuple[str, ...]:
    kinds = ("boxes", "masks", "semantic", "depth")
    asked = {word.strip() for word in text.split(",") if word.strip()}
    if unknown := asked - set(kinds):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: known are {', '.join(kinds)}")
    if "masks" in asked:
        asked.add("boxes")  # COCO's form has no masks without boxes
    return tuple(kind for kind in kinds if kind in asked)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to write, for example data/scenes")
    parser.add_argument(
        "--images", type=_count, help="training scenes to write (default 15000), or to measure with --stats"
    )
    parser.add_argument(
        "--val", type=_count, default=500, help="scenes to write for validation, of another seed (default 500)"
    )
    parser.add_argument("--seed", type=_count, default=0, help="which world (default 0)")
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels (default 256)")
    parser.add_argument(
        "--labels",
        type=_labels,
        default=_labels("boxes,masks,semantic,depth"),
        help="kinds to write, with commas (default all)",
    )
    parser.add_argument(
        "--as",
        dest="label_format",
        choices=("coco", "roboflow", "yolo", "voc", "labelme"),
        default="coco",
        help="format of boxes and masks (default coco, which alone comes with class maps and depth)",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--force", action="store_true", help="replace scenes of other settings that stand at --out")
    parser.add_argument("--stats", action="store_true", help="print what the scenes are made of")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="write a contact sheet of eight scenes")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.stats and arguments.preview is None:
        parser.error("nothing to do: give --out, --stats or --preview")
    if not 64 <= arguments.size <= 4096:
        parser.error("--size is between 64 and 4096")
    if arguments.out is not None and arguments.images == 0:
        parser.error("--images is at least 1")
    if arguments.label_format != "coco":
        arguments.labels = tuple(kind for kind in arguments.labels if kind in ("boxes", "masks"))
        if not arguments.labels:
            parser.error("--as needs boxes among the --labels")
    return arguments


def write_as(label_format: str, out: Path, *arguments: object) -> list:
    """As `write_tree`, in another format than COCO; a folder that holds something is never replaced."""
    from densevit.datasets.formats import read_folder, write_folder
    from densevit.datasets.scenes import writer

    writer.check_target(out, force=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        measures = writer.write_tree(Path(folder, "scenes"), *arguments)
        write_folder(read_folder(Path(folder, "scenes"), "coco"), out, label_format)
    return measures


def _progress(total: int) -> Callable[[int], None]:
    """A line on stderr: rewritten in a terminal, one line each tenth elsewhere."""
    start, shown = time.monotonic(), [0]

    def show(done: int) -> None:
        rate = done / max(time.monotonic() - start, 1e-9)
        line = f"{done}/{total} scenes, {rate:.0f} a second"
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done * 10 // total > shown[0]:
            shown[0] = done * 10 // total
            print(line, file=sys.stderr, flush=True)

    return show


def _contact_sheet(scenes: list) -> Any:
    """(H, W, 3) uint8 BGR: image, objects, class map and depth of each scene in a row."""
    from densevit.datasets.scenes import OBJECT_CLASSES, SEMANTIC_CLASSES
    from densevit.visualization import contact_sheet, draw_classes, draw_depth, draw_instances

    rows = []
    for scene in scenes:
        objects = draw_instances(scene.image, scene.boxes, scene.labels, None, OBJECT_CLASSES, scene.masks)
        classes = draw_classes(scene.image, scene.semantic - 1, SEMANTIC_CLASSES)  # ids from 1 on
        pictures = (scene.image, objects, classes, draw_depth(scene.depth))
        rows.append([*zip(pictures, ("image", "objects", "semantic classes", "depth"), strict=True)])
    return contact_sheet(rows)


def main() -> None:
    arguments = parse_arguments()
    from densevit.datasets.scenes import render, statistics, writer
    from densevit.errors import DataError, exit_on_user_error
    from densevit.outputs import files_of, require_file
    from densevit.visualization import write_image

    size = (arguments.size, arguments.size)
    measures = None
    with exit_on_user_error():
        if arguments.preview is not None:
            require_file(arguments.preview, "--preview", files_of())
        if arguments.out is not None:
            images = 15000 if arguments.images is None else arguments.images
            settings = writer.Settings(images, arguments.val, arguments.seed, size, arguments.labels)
            as_coco = arguments.label_format == "coco"
            write = writer.write_tree if as_coco else functools.partial(write_as, arguments.label_format)
            if as_coco and writer.is_written(arguments.out, settings):
                print(f"{arguments.out} holds these scenes already: {images} train, {arguments.val} val")
            else:
                try:
                    measures = write(
                        arguments.out, settings, arguments.workers, arguments.force, _progress(images + arguments.val)
                    )
                except OSError as error:
                    raise DataError(
                        f"{error.filename or arguments.out} cannot be written ({error.strerror}); "
                        "make room or choose another --out, nothing half-written was left behind"
                    ) from error
                kinds = ", ".join(arguments.labels)
                print(f"{arguments.out}: {images} train and {arguments.val} val scenes, labels {kinds}")
        if arguments.stats:
            if measures is None:
                count = min(arguments.images or SAMPLE, 5000)
                measures = [statistics.measure(render(arguments.seed, index, size)) for index in range(count)]
            print(statistics.summary(measures))
        if arguments.preview is not None:
            write_image(arguments.preview, _contact_sheet([render(arguments.seed, index, size) for index in range(8)]))
            print(f"preview: {arguments.preview}")


if __name__ == "__main__":
    main()

"""Evaluate a checkpoint on the test set of its recipe.

densevit test pvt_retinanet_coco work_dirs/pvt_retinanet_coco/epoch_12.pth --out results.json
densevit test pvt_fpn_ade20k CHECKPOINT --out maps/ --scales 0.5 0.75 1 1.25 1.5 1.75 --flip
"""

import argparse
from typing import Any

from densevit.cli.arguments import add_compile, add_config, add_launcher, add_overrides, runner_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("checkpoint", help="weights, in any supported format")
    parser.add_argument("--work-dir", metavar="DIR", help="for logs; default: work_dirs/<config>")
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="write the results: detections as a COCO results JSON, semantic classes or depth as PNG maps",
    )
    parser.add_argument("--palette", action="store_true", help="write the PNG maps with the dataset's colors")
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        metavar="FACTOR",
        help="multi-scale TTA: predict at these scales and average the maps",
    )
    parser.add_argument("--flip", action="store_true", help="horizontal-flip TTA")
    parser.add_argument("--show-dir", metavar="DIR", help="draw each image's ground truth beside the prediction")
    parser.add_argument("--score-thr", type=float, default=0.3, help="score threshold of what is drawn (default: 0.3)")
    add_compile(parser)
    add_overrides(parser)
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    config = runner_config(args)
    from densevit.engine.evaluate import evaluate_checkpoint
    from densevit.engine.malloc import keep_freed_memory

    keep_freed_memory()
    if args.scales or args.flip:
        from densevit.datasets.transforms.test_time_augmentation import with_augmentation

        data = config.test_dataloader.dataset
        data.pipeline = with_augmentation(data.pipeline, args.scales, args.flip)
    draw = _Drawer(args.show_dir, args.score_thr) if args.show_dir else None
    evaluate_checkpoint(
        config, args.checkpoint, out=args.out, on_sample=draw, palette=args.palette, compile=args.compile
    )


class _Drawer:
    """Writes one picture an image: ground truth on the left, prediction on the right."""

    def __init__(self, folder: str, score_thr: float) -> None:
        from densevit.outputs import FileNames

        # where ids are numbers, the file's name says more; where they are paths, two files may share a name
        self.names, self.score_thr = FileNames(folder, ".jpg", by="show"), score_thr

    def __call__(self, sample: Any, image: Any, meta: Any) -> None:
        from densevit.datasets.io.image import read_image
        from densevit.visualization import contact_sheet, draw_ground_truth_and_prediction, write_image

        # what is rendered has no file, and is not resized either
        image = read_image(sample.img_path) if sample.img_path else image
        names, pixels = meta.get("classes"), meta.get("semantic_classes")
        palette = meta.get("palette")
        row = draw_ground_truth_and_prediction(image, sample, names, self.score_thr, 640, pixels or names, palette)
        write_image(self.names(sample.img_id, sample.img_path), contact_sheet([row], cell=640))

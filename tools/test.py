"""Evaluate a checkpoint on the test set of its recipe.

python tools/test.py configs/pvt_retinanet_coco.py work_dirs/pvt_retinanet_coco/epoch_12.pth [--out results.json]
python tools/test.py configs/pvt_fpn_ade20k.py CHECKPOINT [--out maps/] [--scales 0.5 0.75 1 1.25 1.5 1.75 --flip]
"""

import argparse
import os
from typing import Any


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("checkpoint", help="weights, in any supported format")
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data, instead of the config's")
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
    parser.add_argument("--score-thr", type=float, default=0.3, help="score threshold of what is drawn; default 0.3")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the model: takes minutes, and pays off for many images of few sizes",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    settings = "override config values"
    parser.add_argument("--cfg-options", nargs="+", action="extend", metavar="KEY=VALUE", help=settings)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        from densevit.engine.config import parse_options, read_config

        cfg = read_config(args.config, parse_options(args.cfg_options), args.data_root)
        cfg.launcher = args.launcher
        cfg.work_dir = args.work_dir or cfg.get("work_dir")
        from densevit.engine.evaluate import evaluate_checkpoint
        from densevit.engine.malloc import keep_freed_memory

        keep_freed_memory()
        if args.scales or args.flip:
            from densevit.datasets.transforms.test_time_augmentation import with_augmentation

            data = cfg.test_dataloader.dataset
            data.pipeline = with_augmentation(data.pipeline, args.scales, args.flip)
        draw = _Drawer(args.show_dir, args.score_thr) if args.show_dir else None
        evaluate_checkpoint(
            cfg, args.checkpoint, out=args.out, on_sample=draw, palette=args.palette, compile=args.compile
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


if __name__ == "__main__":
    main()

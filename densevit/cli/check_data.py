"""Check the datasets of a config, or a folder of images and labels, before training; exit code 2 where one is wrong.

densevit check-data pvt_retinanet_coco --data-root data/coco --images 500
densevit check-data my_photos

Boxes and masks in COCO's format, semantic class maps, whose pixels are counted by class, and depth maps, whose range in
meters and share of invalid pixels are printed. A folder is read in any supported format (docs/data_formats.md).
"""

import argparse
import os

from densevit.cli.arguments import add_format, add_overrides, config_of, folder_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="config file, shipped recipe, or folder of images and labels")
    parser.add_argument("--images", type=int, help="number of images to decode of each dataset; default: all")
    add_overrides(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> None:
    if os.path.isdir(args.config):
        data = folder_data(args.config, args, strict=False)
        if data.problems:
            raise SystemExit(2)
        return
    config = config_of(args)
    from densevit.datasets.validation import check_datasets
    from densevit.errors import printable

    reports = check_datasets(config, args.images)
    for report in reports:
        print("\n".join(map(printable, report.text().split("\n"))))
    if any(report.problems for report in reports):
        raise SystemExit(2)

"""Print a recipe's parameters and multiply-adds (the papers' FLOPs) by part.

densevit info swin_maskrcnn_coco --size 800 1280
"""

import argparse

from densevit.cli.arguments import add_cfg_options, add_config, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    size = "pixels of the network's input (default: 800 1280, as the papers count)"
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1280), metavar=("HEIGHT", "WIDTH"), help=size)
    parser.add_argument(
        "--classes", type=int, default=80, help="number of classes, where the recipe has none (default: 80)"
    )
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> None:
    config = config_of(args)
    from densevit.engine.model_info import model_info, table

    print(table(model_info(config, tuple(args.size), args.classes)))

"""Print a recipe's parameters and multiply-adds (the papers' FLOPs) by part.

python tools/model_info.py configs/swin_maskrcnn_coco.py [--size 800 1280]
"""

import argparse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file, or the name of a shipped one")
    size = "pixels of the network's input (default: 800 1280, as the papers count)"
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1280), metavar=("HEIGHT", "WIDTH"), help=size)
    parser.add_argument(
        "--classes",
        type=int,
        default=80,
        help="number of classes, where the recipe has none (default: 80)",
    )
    settings = "override config values"
    parser.add_argument("--cfg-options", nargs="+", action="extend", metavar="KEY=VALUE", help=settings)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        from densevit.engine.config import parse_options, read_config
        from densevit.engine.model_info import model_info, table

        config = read_config(args.config, parse_options(args.cfg_options))
        print(table(model_info(config, tuple(args.size), args.classes)))


if __name__ == "__main__":
    main()

"""Check the datasets of a config before training; exit code 2 and a line for each problem.

python tools/check_data.py configs/pvt_retinanet_coco.py --data-root data/coco [--images 500]

Boxes and masks in COCO's format, semantic class maps, whose pixels are counted by class, and depth maps, whose range in
meters and share of invalid pixels are printed.
"""

import argparse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("--data-root", help="folder of the data, instead of the config's")
    parser.add_argument("--images", type=int, help="number of images to decode of each dataset; default: all")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="override config values")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from densevit.errors import exit_on_user_error, printable

    with exit_on_user_error():
        from densevit.engine.config import parse_options, read_config

        config = read_config(args.config, parse_options(args.cfg_options), args.data_root)
        from densevit.datasets.validation import check_datasets

        reports = check_datasets(config, args.images)
        for report in reports:
            print("\n".join(map(printable, report.text().split("\n"))))
    if any(report.problems for report in reports):
        raise SystemExit(2)


if __name__ == "__main__":
    main()

"""Convert a checkpoint of another project: a config, safetensors and the load report.

densevit convert retinanet_pvt-t_fpn_1x_coco.pth --out imported

The configuration that the checkpoint carries as text is read as data and never run.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint that carries its configuration, or a folder")
    parser.add_argument("--out", default=".", metavar="DIR", help="folder for the config and the weights")
    parser.add_argument("--variant", help="which Depth-Anything it is, such as depth_anything_v2_metric_20")
    parser.add_argument("--config", help="detectron2's configuration, where it is not config.yaml beside the file")
    parser.add_argument("--load-report", action="store_true", help="print the load report of every tensor")


def run(args: argparse.Namespace) -> None:
    from densevit.checkpoints.exporting import write_imported
    from densevit.converters import import_model
    from densevit.engine.config import config_path
    from densevit.engine.dump_config import config_text

    found = import_model(args.checkpoint, args.variant, args.config)
    print(found.load_report.table() if args.load_report else found.load_report)
    recipes = config_path("pvt_retinanet_coco").parent
    config, weights = write_imported(found, args.checkpoint, args.out, recipes, config_text)
    print(f"wrote {config} and {weights}")

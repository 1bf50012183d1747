"""Train a recipe.

densevit train pvt_retinanet_coco --data-root data/coco
densevit train swin_maskrcnn_coco --data my_photos --epochs 20 --batch 4
torchrun --nproc-per-node 8 -m densevit train pvt_retinanet_coco --launcher pytorch
"""

import argparse
from typing import Any

from densevit.cli.arguments import add_config, add_format, add_launcher, add_overrides, folder_data, runner_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--work-dir", metavar="DIR", help="for checkpoints and logs; default: work_dirs/<config>")
    parser.add_argument("--resume", action="store_true", help="resume from the latest checkpoint in the work dir")
    parser.add_argument("--amp", action="store_true", help="bf16 autocast, on CPU or GPU")
    parser.add_argument(
        "--pretrained", metavar="FILE|none", help="weights of the backbone instead of the config's; none: random"
    )
    parser.add_argument("--seed", type=int, help="random seed, instead of the config's")
    parser.add_argument("--data", metavar="FOLDER", help="images and labels in any known format (docs/data_formats.md)")
    parser.add_argument("--depth-scale", type=float, help="with --data: what stands for one meter in PNG depth maps")
    add_overrides(parser)
    group = parser.add_argument_group("fine-tuning")
    group.add_argument("--epochs", type=int, metavar="N", help="length; the learning rate schedule follows")
    group.add_argument("--time", metavar="30m", help="train for so long, with a schedule that ends then")
    group.add_argument("--batch", type=int, metavar="N", help="images a step; the learning rate follows")
    group.add_argument("--lr", type=float, help="learning rate, instead of the config's")
    group.add_argument("--freeze", nargs="+", metavar="PART", help="do not train these parts, such as backbone")
    group.add_argument("--ema", action="store_true", help="evaluate and save averaged weights")
    group.add_argument("--early-stop", type=int, metavar="N", help="end after N validations that are not better")
    group.add_argument("--workers", type=int, metavar="N", help="processes that load data")
    group.add_argument("--track", choices=["tensorboard", "wandb", "mlflow"], help="log there as well")
    add_format(parser)
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    config = runner_config(args)
    apply_options(config, args)
    from densevit.engine.build_runner import build_runner
    from densevit.engine.malloc import keep_freed_memory

    keep_freed_memory()
    runner = build_runner(config, resume=args.resume or bool(config.get("resume")), pretrained=args.pretrained)
    if runner.resume_checkpoint is None and runner.rank == 0:
        from densevit.datasets.validation import require_readable_images

        require_readable_images(runner.train_dataset)
    runner.train()


def apply_options(config: Any, args: argparse.Namespace) -> None:
    """Change a config as the options say.

    Raises:
        ConfigError, DataError: an option that does not fit the config, or a folder that cannot be read.
    """
    from densevit.engine import train_options
    from densevit.errors import ConfigError

    images = None
    if args.data:
        from densevit.datasets.formats import dataset_configs
        from densevit.datasets.formats.recipe import recipe_task

        data = folder_data(args.data, args, recipe_task(config))
        for key, value in dataset_configs(data, config, args.depth_scale).items():
            config[key] = value  # as a whole: merging would keep what belongs to the recipe's own data
        images = len(data.splits["train"].images)
    if args.amp:
        config.amp = True
    if args.ema:
        config.ema = config.get("ema") or True
    if args.seed is not None:
        config.randomness = dict(config.get("randomness") or {}, seed=args.seed)
    if args.batch is not None:
        train_options.set_batch_size(config, args.batch)
    if args.lr is not None:
        train_options.set_learning_rate(config, args.lr)
    if args.epochs is not None and args.time is not None:
        raise ConfigError("--epochs and --time both say how long to train: give one of them.")
    if args.epochs is not None:
        train_options.set_length(config, args.epochs, images)
    if args.time is not None:
        train_options.set_time(config, train_options.parse_duration(args.time))
    if args.freeze:
        train_options.freeze(config, args.freeze)
    if args.early_stop is not None:
        train_options.stop_early(config, args.early_stop, train_options.main_metric(config))
    if args.workers is not None:
        train_options.set_workers(config, args.workers)
    if args.track:
        train_options.track(config, args.track)

"""Train a recipe.

densevit train pvt_retinanet_coco --data-root data/coco
densevit train swin_maskrcnn_coco --data my_photos
torchrun --nproc-per-node 8 -m densevit train pvt_retinanet_coco --launcher pytorch
"""

import argparse

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
    add_format(parser)
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    config = runner_config(args)
    if args.data:
        from densevit.datasets.formats import dataset_configs
        from densevit.datasets.formats.recipe import recipe_task

        data = folder_data(args.data, args, recipe_task(config))
        for key, value in dataset_configs(data, config, args.depth_scale).items():
            config[key] = value  # as a whole: merging would keep what belongs to the recipe's own data
    if args.amp:
        config.amp = True
    if args.seed is not None:
        config.randomness = dict(config.get("randomness") or {}, seed=args.seed)
    from densevit.engine.build_runner import build_runner
    from densevit.engine.malloc import keep_freed_memory

    keep_freed_memory()
    runner = build_runner(config, resume=args.resume or bool(config.get("resume")), pretrained=args.pretrained)
    if runner.resume_checkpoint is None and runner.rank == 0:
        from densevit.datasets.validation import require_readable_images

        require_readable_images(runner.train_dataset)
    runner.train()

"""Train a recipe.

python tools/train.py configs/pvt_retinanet_coco.py [--data-root data/coco]
torchrun --nproc-per-node 8 tools/train.py configs/pvt_retinanet_coco.py --launcher pytorch
"""

import argparse
import os


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data, instead of the config's")
    parser.add_argument("--work-dir", metavar="DIR", help="for checkpoints and logs; default: work_dirs/<config>")
    parser.add_argument("--resume", action="store_true", help="resume from the latest checkpoint in the work dir")
    parser.add_argument("--amp", action="store_true", help="bf16 autocast, on CPU or GPU")
    parser.add_argument(
        "--pretrained", metavar="FILE|none", help="weights of the backbone instead of the config's; none: random"
    )
    parser.add_argument("--seed", type=int, help="random seed, instead of the config's")
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
        if args.amp:
            cfg.amp = True
        if args.seed is not None:
            cfg.randomness = dict(cfg.get("randomness") or {}, seed=args.seed)
        from densevit.engine.build_runner import build_runner
        from densevit.engine.malloc import keep_freed_memory

        keep_freed_memory()
        runner = build_runner(cfg, resume=args.resume or bool(cfg.get("resume")), pretrained=args.pretrained)
        if runner.found is None and runner.rank == 0:
            from densevit.datasets.validation import require_readable_images

            require_readable_images(runner.train_dataset)
        runner.train()


if __name__ == "__main__":
    main()

"""Write the weights of a checkpoint as float16 safetensors, with its class names.

python tools/export_weights.py work_dirs/pvt_multitask_scenes/latest.pth pvt_multitask_scenes.safetensors

The averaged weights (ema) where the training has them. The file loads like the checkpoint and is a fraction of it.
"""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a .pth that tools/train.py wrote")
    parser.add_argument("out", metavar="OUT.safetensors", help="the file to write")
    parser.add_argument("--recipe", metavar="NAME", help="name of their recipe (default: that of the run)")
    args = parser.parse_args()

    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        from densevit.checkpoints.exporting import export_weights

        path = export_weights(args.checkpoint, args.out, args.recipe)
        print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

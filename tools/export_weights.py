"""Write the weights of a training's checkpoint as float16 safetensors, with the names of its classes.

python tools/export_weights.py work_dirs/pvt_multitask_scenes/latest.pth pvt_multitask_scenes.safetensors

Averaged weights (ema) where the training keeps them. The file is loaded like the checkpoint, and is a fraction of it.
"""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a .pth that tools/train.py wrote")
    parser.add_argument("out", metavar="OUT.safetensors", help="the file to write")
    parser.add_argument("--recipe", metavar="NAME", help="config that they belong to (default: as the run was called)")
    args = parser.parse_args()

    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        from densevit.checkpoints.exporting import export_weights

        path = export_weights(args.checkpoint, args.out, args.recipe)
        print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

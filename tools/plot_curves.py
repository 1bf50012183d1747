"""Draw the curves of a training: losses, learning rate and validation metrics over its iterations, as picture and CSV.

python tools/plot_curves.py work_dirs/pvt_multitask_scenes --out curves.png --csv curves.csv
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dir", type=Path, help="folder of the training, with the logs of all its resumed parts")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help="picture to write (default: curves.png)")
    parser.add_argument("--csv", type=Path, help="table to write")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        from densevit.outputs import files_of, require_file
        from densevit.visualization.curves import draw_curves, logs_in, read_log, write_table

        require_file(args.out, "--out", files_of(*logs_in(args.work_dir)))
        if args.csv:
            require_file(args.csv, "--csv", files_of(args.out, *logs_in(args.work_dir)))
        rows = read_log(args.work_dir)
        draw_curves(rows, args.out)
        if args.csv:
            write_table(rows, args.csv)
        written = ", ".join(str(path) for path in (args.out, args.csv) if path)
        print(f"{len(rows)} rows up to iteration {rows[-1]['step']}: {written}")


if __name__ == "__main__":
    main()

"""Evaluate a COCO results file of any project: the twelve COCO metrics, equal to pycocotools'.

python tools/eval_results.py RESULTS.json --ann ANNOTATIONS.json --metric bbox segm
"""

import argparse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="JSON list of {image_id, category_id, bbox [x,y,w,h] or segmentation, score}")
    parser.add_argument("--ann", required=True, help="annotations in COCO's instances format")
    parser.add_argument("--metric", nargs="+", default=["bbox"], choices=["bbox", "segm"], help="default: bbox")
    parser.add_argument(
        "--backend",
        default="auto",
        choices=["auto", "hotcoco", "faster_coco_eval", "pycocotools"],
        help="library that matches boxes; all give the same metrics, auto takes the fastest installed",
    )
    parser.add_argument("--per-class", action="store_true", help="also AP, AP50 and AR@100 of each class")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        from densevit.metrics.coco_eval import class_table, evaluate_coco, format_metrics

        scores = evaluate_coco(args.ann, args.results, args.metric, args.backend, per_class=args.per_class)
        print(format_metrics(scores))
        if args.per_class:
            print("\n" + class_table(scores))


if __name__ == "__main__":
    main()

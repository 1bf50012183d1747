"""Evaluate a COCO results file of any project: the twelve COCO metrics, equal to pycocotools'.

densevit evaluate RESULTS.json --ann ANNOTATIONS.json --metric bbox segm
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(args: argparse.Namespace) -> None:
    from densevit.metrics.coco_eval import class_table, evaluate_coco, format_metrics

    scores = evaluate_coco(args.ann, args.results, args.metric, args.backend, per_class=args.per_class)
    print(format_metrics(scores))
    if args.per_class:
        print("\n" + class_table(scores))

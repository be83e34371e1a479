"""``python -m tfcap.datasets``: builds, draws and inspects photographs with captions to train on."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tfcap.data.vocabulary import MAX_WORDS, MIN_COUNT
from visualization.cli.arguments import Parser, number
from visualization.cli.output import OutputFolder, file_stem
from visualization.cli.running import loading_tensorflow, progress, run
from visualization.networks import NETWORKS

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    Example:
        >>> main(["shapes", "--train", "4", "--val", "2", "--out", "shapes", "--quiet"])
        0
    """
    parser = Parser(
        prog="python -m tfcap.datasets",
        description="Builds, draws and inspects photographs with captions to train on.",
        epilog="example: python -m tfcap.datasets build Flickr8k --out data/flickr8k",
    )
    commands = parser.add_subparsers(dest="job", required=True, metavar="build|shapes|inspect")
    _add_build(commands)
    _add_shapes(commands)
    _add_inspect(commands)
    jobs = {"build": _build, "shapes": _shapes, "inspect": _inspect}
    return run(parser, argv, lambda arguments: jobs[arguments.job](arguments))


def _add_build(commands: Any) -> None:
    build = commands.add_parser(
        "build",
        help="from Flickr8k, Flickr30k, COCO, Karpathy's json, or images and a CSV or JSON list",
        description="Builds the course's layout from Flickr8k or Flickr30k (images, token file, files "
        "that list the splits), COCO's captions_*.json, Karpathy's dataset_*.json, or a CSV with the "
        "columns image and caption, and perhaps split; or a JSON list of these, or metadata.jsonl. Run "
        "again after an interruption, it continues.",
        epilog="example: python -m tfcap.datasets build Flickr8k --out data/flickr8k",
    )
    build.add_argument(
        "source", type=Path, metavar="FOLDER|FILE", help="the data set, or its file of captions"
    )
    build.add_argument(
        "--images", type=Path, metavar="FOLDER", help="where the images are, if not there"
    )
    build.add_argument("--name", help="NAME in the files' names (default: the source's name)")
    build.add_argument(
        "--min-count",
        type=number(int, 1),
        default=MIN_COUNT,
        metavar="N",
        help="rarer words of the training captions become <UNK> (default: %(default)s)",
    )
    build.add_argument(
        "--max-words",
        type=number(int, 1),
        default=MAX_WORDS,
        metavar="N",
        help="longer captions are cut after so many words (default: %(default)s)",
    )
    build.add_argument(
        "--val-share",
        type=number(float, 0, excluding=(0,)),
        metavar="SHARE",
        help="share of the images in val, drawn at random, if nothing says the splits (default: 0.1)",
    )
    build.add_argument(
        "--network",
        choices=NETWORKS,
        default=NETWORKS[0],
        help="the network whose features are written (default: %(default)s)",
    )
    build.add_argument(
        "--cells",
        action="store_true",
        help="write the features of each cell of the photographs, for captioners with attention, in "
        "float16: 57 kB each for the 81 cells of efficientnet-lite2, 173 kB for squeezenet's 169",
    )
    build.add_argument(
        "--views",
        type=number(int, 0, 100),
        default=0,
        metavar="K",
        help="also write the features of K random crops of each training photograph, half of them "
        "mirrored, from which training draws; each takes as much as the photograph (default: 0)",
    )
    build.add_common_arguments()


def _add_shapes(commands: Any) -> None:
    drawn = commands.add_parser(
        "shapes",
        help="a small set of coloured shapes, drawn here",
        description="Draws coloured shapes of two sizes, one above, left of or inside another, with "
        "captions that say which. Eight pairs of colour and shape are shown in val only.",
        epilog="example: python -m tfcap.datasets shapes --out data/shapes",
    )
    drawn.add_argument("--name", default="shapes", help="NAME in the files' names")
    for split, count in (("train", 2000), ("val", 400)):
        drawn.add_argument(
            f"--{split}",
            type=number(int, 1),
            default=count,
            metavar="N",
            help=f"pictures in {split} (default: %(default)s)",
        )
    drawn.add_common_arguments()


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="what a folder holds, with a figure of images and their captions",
        description="Says what a folder in the course's layout holds, the course's or one built here, "
        "and draws some of its images with their captions.",
        epilog="example: python -m tfcap.datasets inspect data/shapes",
    )
    inspect.add_argument("folder", type=Path, metavar="FOLDER", help="with NAME_captions.h5 in it")
    inspect.add_argument("--split", help="whose images are drawn (default: val, if there is one)")
    inspect.add_argument(
        "--count",
        type=number(int, 1),
        default=8,
        metavar="N",
        help="images drawn (default: %(default)s)",
    )
    inspect.add_common_arguments()


def _build(arguments: argparse.Namespace) -> int:
    from tfcap.data.sources import VAL_SHARE, read_source

    name = arguments.name or file_stem(arguments.source.resolve().stem)
    _check_name(name)
    share = VAL_SHARE if arguments.val_share is None else arguments.val_share
    source = read_source(arguments.source, arguments.images, val_share=share, seed=arguments.seed)
    OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from tfcap.data.build import build_dataset, feature_bytes
    encoder = arguments.network.replace("-", "_") + "_cells" * arguments.cells
    if not arguments.quiet:
        needed = feature_bytes(source, encoder, arguments.views)
        print(f"features of {encoder} take {needed / 1e6:,.1f} MB on the disk", flush=True)
    with progress("", arguments.quiet) as report:
        record = build_dataset(
            source,
            arguments.out,
            name,
            min_count=arguments.min_count,
            max_words=arguments.max_words,
            encoder=encoder,
            views=arguments.views,
            seed=arguments.seed,
            report=report,
        )
    return _print_record(arguments, record)


def _shapes(arguments: argparse.Namespace) -> int:
    _check_name(arguments.name)
    OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from tfcap.data.build import make_shapes
    with progress("", arguments.quiet) as report:
        record = make_shapes(
            arguments.out,
            arguments.name,
            train=arguments.train,
            val=arguments.val,
            seed=arguments.seed,
            report=report,
        )
    return _print_record(arguments, record)


def _inspect(arguments: argparse.Namespace) -> int:
    from tfcap.data import inspection
    from tfcap.data.coco import load_coco_data

    data = load_coco_data(arguments.folder)
    splits = inspection.describe(data)
    split = arguments.split or ("val" if "val" in splits else next(iter(splits)))
    if split not in splits:
        raise ValueError(f"--split {split}: expected one of {', '.join(splits)}")
    out = OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from tfcap.data.build import hash_files
        from tfcap.plotting import dataset_figure
        from visualization.plotting import png
    images, captions = inspection.draw_examples(data, split, arguments.count, arguments.seed)
    sources = [str(data[f"{split}_urls"][image]) for image in images]
    name = file_stem(arguments.folder.resolve().name)
    found = splits[split]
    title = f"{name}, {split}: {found['images']:,} images, {found['captions']:,} captions"
    figure = out.write(f"{name}-inspect.png", png(dataset_figure(sources, captions, title)))
    stored = [path for path in sorted(arguments.folder.glob("*.h5")) if path.is_file()]
    with progress("", arguments.quiet) as report:
        hashes = hash_files(dict(zip(stored, stored, strict=True)), report)
    record = {
        "command": "tfcap.datasets inspect",
        "folder": str(arguments.folder),
        "files": hashes,
        "encoder": data["encoder"],
        "vocabulary": len(data["idx_to_word"]),
        "frequent_words": data["idx_to_word"][4:24],
        "splits": splits,
        "drawn": {"split": split, "seed": arguments.seed, "images": sources},
        "figure": figure.name,
    }
    written = out.write_json(f"{name}-inspect.json", record)
    if not arguments.quiet:
        print(inspection.as_text(data, splits))
        for source, texts in zip(sources[:3], captions, strict=False):
            print(f"{source}: {texts[0]}")
        print(f"written  {figure}\n         {written}")
    return 0


def _check_name(name: str) -> None:
    if file_stem(name) != name:
        raise ValueError(
            f"--name {name}: expected letters, digits and hyphens, as {file_stem(name)}"
        )


def _print_record(arguments: argparse.Namespace, record: dict[str, Any]) -> int:
    if arguments.quiet:
        return 0
    name = record["name"]
    for split, found in record["splits"].items():
        print(
            f"{split:6}{found['images']:8,} images {found['captions']:9,} captions, "
            f"{found['share_unknown']:.1%} of their words <UNK>"
        )
    if record["lack_spaces"]:
        from tfcap.data.build import NO_SPACES

        print(f"warning: {NO_SPACES}", file=sys.stderr)
    elif record["splits"]["train"]["share_unknown"] > 0.5:
        print(
            "warning: more than half of the words are <UNK>, which a captioner never says: lower "
            f"--min-count (now {record['min_count']}), for example to 1, which keeps all words",
            file=sys.stderr,
        )
    if "val" not in record["splits"]:
        print("no images are in val, without which only --overfit trains: put some into val")
    cut = sum(found["captions_cut"] for found in record["splits"].values())
    if cut:
        print(f"{cut:,} captions were cut after {record['max_words']} words (--max-words)")
    print(f"{record['vocabulary']:,} words in the vocabulary, the four special ones included")
    if record["left_out"]:
        print(
            f"{record['left_out']:,} left out: {arguments.out / name}_left_out.txt lists what and why"
        )
    print(f"written  {arguments.out / name}_*  ({record['seconds']:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

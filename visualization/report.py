"""``python -m visualization.report``: what networks see in a photograph, as one page to send."""

from __future__ import annotations

import argparse
import sys

from visualization.cli.arguments import Parser, number
from visualization.cli.network import open_network
from visualization.cli.output import OutputFolder
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.reports import Reports
from visualization.cli.running import run, start_tensorflow


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 1 if photographs were skipped."""
    parser = Parser(
        prog="python -m visualization.report",
        description="Writes what networks see in a photograph as one HTML page, which needs nothing "
        "else: the first five classes, maps to lay over it and a test of each, and how far the nearest "
        "picture is that fools. The page has nothing of the file but its name and its pixels.",
        epilog="example: python -m visualization.report cat.jpg --classes 5 "
        "--network squeezenet efficientnet-lite2",
    )
    parser.add_argument(
        "image",
        nargs="*",
        metavar="PATH|URL|FOLDER",
        help="the photographs (default: matplotlib's grace_hopper.jpg); several get an index too",
    )
    parser.add_argument(
        "--classes",
        type=number(int, 1, 5),
        default=1,
        metavar="N",
        help="draw maps for the first N classes, 1 to 5; each takes as long again (default: "
        "%(default)s)",
    )
    parser.add_method_argument()
    parser.add_network_arguments(several=True, makes="maps of each")
    parser.add_common_arguments()
    parser.set_defaults(command="visualization.report")
    return run(parser, argv, _report)


def _report(arguments: argparse.Namespace) -> int:
    network = open_network(arguments)
    sources = image_sources(arguments.image)
    photographs = Photographs(sources, None, arguments.quiet)
    out = OutputFolder(arguments.out)
    start_tensorflow(arguments.seed, arguments.quiet)
    for member in network.members:
        member.load()
    networks = [(member, arguments.classes) for member in network.members]
    networks += [(other, 0) for other in network.others()]
    several = len(sources) > 1
    reports = Reports(arguments, out, networks, methods=arguments.method, several=several)
    for stem, image, source in photographs:
        reports.add(stem, image, source)
    status = photographs.status()
    reports.write_index()
    return status


if __name__ == "__main__":
    sys.exit(main())

"""The pages that commands write: one for each photograph, and for several an index of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.cli.methods import BY_DEFAULT, METHODS, attribution_method
from visualization.cli.network import Network
from visualization.cli.output import OutputFolder, unused
from visualization.cli.running import progress

if TYPE_CHECKING:
    import numpy as np

    from visualization.pages.page import Section

__all__ = ["Reports"]

_TITLES = {"squeezenet": "SqueezeNet", "efficientnet-lite2": "EfficientNet-Lite2"}


class Reports:
    """Writes a page and its record for each photograph, and at the end an index if there are several.

    Args:
        arguments: a command's, with ``command``, its name; ``seed`` and ``quiet``.
        out: where to.
        networks: loaded, and for how many of the first five classes each has maps.
        methods: keys of `METHODS`.
        page: the name of the page, or of the index; by default each photograph's, or index.html.
        several: whether there will be an index.

    Example:
        >>> arguments = argparse.Namespace(command="visualization.report", seed=0, quiet=True)
        >>> reports = Reports(arguments, OutputFolder(Path("out")), [], methods=[])
        >>> import numpy as np
        >>> reports.add("a", np.zeros((2, 3, 3), np.uint8), {"source": "a.png", "sha256": "0"}).name
        'a-report.html'
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        out: OutputFolder,
        networks: Iterable[tuple[Network, int]],
        *,
        methods: Sequence[str] = BY_DEFAULT,
        page: str | None = None,
        several: bool = False,
    ) -> None:
        self.arguments, self.out, self.networks = arguments, out, list(networks)
        self.methods = {name: attribution_method(name, arguments.seed) for name in methods}
        self.page, self.several = page, several
        self._entries: list[tuple[str, str, str, str]] = []
        self._taken = {Path(page).stem.casefold()} if several and page else set()

    def add(
        self,
        stem: str,
        photograph: np.ndarray,
        source: dict[str, str],
        sections: Sequence[Section] = (),
        record: dict[str, Any] | None = None,
    ) -> Path:
        """Looks at one photograph, and writes its page and its record.

        Args:
            stem: of the files' names.
            photograph: uint8 (H, W, 3), of any size.
            source: its record, as `Photographs` yields it.
            sections: what else the page has, before what the networks see.
            record: what else its record has.
        """
        from visualization.pages.page import data_uri, report_page
        from visualization.pages.photograph import view_section

        views = [self._look(photograph, network, classes) for network, classes in self.networks]
        seen = [
            view_section(_title(network), view, number=number)
            for number, ((network, _), view) in enumerate(zip(self.networks, views, strict=True), 1)
        ]
        name = _name(source["source"])
        content = report_page(name, photograph, [*sections, *seen], self._facts(source))
        own_name = None if self.several else self.page
        page_name = own_name or f"{unused(f'{stem}-report', self._taken)}.html"
        page = self.out.write(page_name, content)
        networks = [
            {"network": network.record, "classes_with_maps": classes, **view.record()}
            for (network, classes), view in zip(self.networks, views, strict=True)
        ]
        settings = {method: METHODS[method] for method in self.methods}
        self.out.write_json(
            f"{stem}-report.json",
            {
                "command": self.arguments.command,
                "image": source,
                "networks": networks,
                "settings": settings,
                "seed": self.arguments.seed,
                **(record or {}),
                "page": page.name,
            },
        )
        if self.several:
            best = views[0].shown(views[0].classes[0]) if views else ""
            self._entries.append((page.name, name, best, data_uri(photograph, 160)))
        if not self.arguments.quiet:
            guesses = (
                f"{_title(network)} sees {view.shown(view.classes[0])}"
                for (network, _), view in zip(self.networks, views, strict=True)
            )
            print(f"{page}: {', '.join(guesses)}", flush=True)
        return page

    def write_index(self) -> None:
        """Writes the page that leads to the others, if there are several."""
        from visualization.pages.page import index_page

        if self.several:
            title = f"{len(self._entries)} photographs"
            index = self.out.write(self.page or "index.html", index_page(title, self._entries))
            if not self.arguments.quiet:
                print(f"written  {index}")

    def _look(self, photograph: np.ndarray, network: Network, classes: int) -> Any:
        from visualization.pages.photograph import view_photograph

        with progress(f"{_title(network)} ...", self.arguments.quiet) as show:

            def say(doing: str) -> None:
                show(f"{_title(network)}: {doing} ...")

            return view_photograph(
                photograph,
                network.model,
                network.specification,
                self.methods,
                classes=classes,
                seed=self.arguments.seed,
                say=say,
            )

    def _facts(self, source: dict[str, str]) -> dict[str, str]:
        """Of files only their names: where they are on this machine is nobody's business."""
        from visualization.files.json_file import versions
        from visualization.pages.photograph import FOOLING

        facts = {"command": f"python -m {self.arguments.command}"}
        facts |= {"photograph": _name(source["source"]), "its sha256": source["sha256"]}
        for network, classes in self.networks:
            record, title = network.record, _title(network)
            weights = _name(record.get("weights") or record["model"])
            facts[f"{title}, weights"] = f"{weights}, sha256 {record['sha256']}"
            facts[f"{title}, classes with maps"] = str(classes)
        settings = {method: METHODS[method] for method in self.methods} | {"fooling": FOOLING}
        for what, given in settings.items():
            facts[what] = (
                ", ".join(f"{key} {value}" for key, value in given.items()) or "no settings"
            )
        facts["seed"] = str(self.arguments.seed)
        facts["versions"] = ", ".join(f"{name} {number}" for name, number in versions().items())
        return facts


def _name(source: str) -> str:
    return Path(source.partition("?")[0]).name


def _title(network: Network) -> str:
    named = network.record.get("network")
    return _TITLES[named] if named else network.model.name

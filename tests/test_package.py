import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("tfcap", "visualization", "weights", "pyproject.toml", "README.md", "LICENSE")
SCRIPT = """
from visualization import SqueezeNet, class_names, make_fooling_images, load_image
names: list[str] = class_names()
index: str = names[0].index("t")
"""


def requirements(path):
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line]


def test_the_package_needs_what_requirements_txt_lists_but_pytest():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = requirements(ROOT / "requirements.txt")
    assert project["dependencies"] == [line for line in listed if not line.startswith("pytest")]


def build(kind, source, out):
    """Builds without network, with the setuptools at hand, as `pip wheel --no-build-isolation` does."""
    call = f"import setuptools.build_meta as b; print(b.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel that comes of the source distribution: its Python, its packages."""
    pytest.importorskip("setuptools", "77", reason="setuptools 77 or later builds the package")
    folder = tmp_path_factory.mktemp("package")
    clone = folder / "clone"
    clone.mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, clone)
    with tarfile.open(build("sdist", clone, folder)) as sdist:
        sdist.extractall(folder / "unpacked", filter="data")
    wheel = build("wheel", next((folder / "unpacked").iterdir()), folder)

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = next(path for path in (folder / "venv").glob("*/python*") if path.stem == "python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", ask], text=True).strip())
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python, site


@pytest.mark.slow
def test_the_wheel_holds_both_packages_with_weights_licences_and_types(installed):
    _, site = installed
    tops = {path.name for path in site.iterdir() if not path.name.endswith((".dist-info", ".pth"))}
    assert tops == {"tfcap", "visualization"}
    for package in ("tfcap", "visualization"):
        ours = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py*")}
        assert {path for path in ours if path.suffix != ".pyc"} == {
            path.relative_to(site)
            for path in (site / package).rglob("*.py*")
            if path.parent.name != "weights" and path.suffix != ".pyc"
        }
        assert (site / package / "py.typed").exists()
    templates = "visualization/pages/templates"
    assert sorted(path.name for path in (site / templates).iterdir()) == sorted(
        path.name for path in (ROOT / templates).iterdir()
    )
    for path in (ROOT / "weights").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = site / "visualization" / path.relative_to(ROOT)
            assert copy.read_bytes() == path.read_bytes()
    assert len(list(site.glob("*.dist-info/licenses/**/*"))) >= 2


@pytest.mark.slow
def test_an_installed_command_works_in_an_empty_folder(installed, tmp_path):
    python, site = installed
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [python, "-m", "visualization.fool", "--target", "6", "--quiet", "--out", tmp_path],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert len(list(tmp_path.iterdir())) >= 3
    code = "from tfcap import CaptioningRNN; print(CaptioningRNN({'<NULL>': 0}).count_params())\n"
    code += "import numpy; from visualization.pages.page import report_page as page\n"
    code += "assert page('a.jpg', numpy.zeros((2, 3, 3), 'uint8'), [], {})"
    for command in (["-m", "tfcap"], ["-c", code]):
        subprocess.run([python, *command], cwd=tmp_path, env=environment, check=True)

    (site / "visualization/weights/imagenet_classes.txt").write_text("damaged")
    done = subprocess.run(
        [python, "-c", "import visualization; visualization.class_names()"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"ValueError: .*site-packages.*damaged: .*reinstall tfcap", done.stderr)


@pytest.mark.slow
def test_type_checkers_see_the_installed_types(installed, tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--python-executable",
            installed[0],
            "script.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("error:") == 1, done.stdout + done.stderr
    assert 'script.py:4: error: Incompatible types in assignment (expression has type "int"' in (
        done.stdout
    )

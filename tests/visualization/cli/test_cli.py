"""What the commands share, by what it promises."""

import argparse
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import forms
from visualization.backend import keras, tf
from visualization.cli.arguments import Parser, number
from visualization.cli.commands import list_commands
from visualization.cli.network import Network, open_network
from visualization.cli.output import OutputFolder, file_stem, unused
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.running import run, start_tensorflow
from visualization.files.bundle import BUNDLE, EFFICIENTNET_LITE2
from visualization.images.reading import images_in
from visualization.weight_files.caffe import fold_caffe

ROOT = Path(__file__).resolve().parent.parent.parent.parent
MODEL = """
import keras
def build():
    layers = [keras.Input((8, 9, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers), lambda pixels: pixels / 255, (0, 255), ["cat", "dog"]
"""


@pytest.mark.parametrize(
    ("convert", "good", "bad", "sentence"),
    [
        (
            number(int, 1),
            ["1", "2", "2147483647"],
            ["0", "-1", "1.5", "x", "", "inf"],
            "of at least 1",
        ),
        (number(int, 1), ["1"], ["2147483648", "9" * 400], "more than 2,147,483,647"),
        (number(int, 0, 9), ["0", "9"], ["10", "-1"], "a whole number from 0 to 9"),
        (number(float, 0, excluding=(0,)), ["1e-9", "3"], ["0", "nan", "inf", "1e999"], "above 0"),
        (number(float, 0, 1, excluding=(0, 1)), ["0.5"], ["0", "1"], "above 0 and below 1"),
        (number(float, 0, 1, excluding=(1,)), ["0"], ["1", "nan"], "from 0 and below 1"),
        (number(int, 1000, 2000), ["1000"], ["999"], "from 1,000 to 2,000"),
    ],
)
def test_a_number_is_converted_or_refused_with_the_range(convert, good, bad, sentence):
    assert [convert(text) for text in good] == [
        float(t) if "." in t or "e" in t else int(t) for t in good
    ]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} is .*{sentence}$"):
            convert(text)


def test_commands_are_listed_one_a_line(capsys):
    assert list_commands("zoo", {"feed": "Feeds an animal.", "open": "Opens a cage."}, []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "python -m zoo.feed  Feeds an animal.",
        "python -m zoo.open  Opens a cage.",
    ]


@pytest.mark.parametrize("package", ["visualization", "tfcap"])
def test_a_package_lists_its_commands_without_tensorflow(package):
    program = (
        f"import sys, runpy; sys.argv[1:] = []\n"
        f"try: runpy.run_module({package!r}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    commands = {
        path.stem
        for path in (ROOT / package).glob("*.py")
        if path.stem != "__main__" and '__name__ == "__main__"' in path.read_text()
    }
    listed = [line for line in done.stdout.splitlines() if line.startswith("python -m ")]
    assert {line.split()[2] for line in listed} == {f"{package}.{name}" for name in commands}
    assert all(line.split(maxsplit=3)[3][0].isupper() for line in listed)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ValueError("two\nlines"), 2, "job: two lines"),
        (OSError("no disk"), 2, "job: no disk"),
        (KeyboardInterrupt(), 130, "job: interrupted"),
    ],
)
def test_a_jobs_error_becomes_one_line_and_a_status(error, status, sentence, capsys):
    def job(_):
        raise error

    assert run(Parser(prog="job"), [], job) == status
    assert capsys.readouterr().err == f"{sentence}\n"


def test_no_name_of_a_file_commands_the_terminal(tmp_path, capsys):
    name = "a\x1b[2J\x9b\u202egpj.\udcff.jpg"
    (tmp_path / name).write_bytes(b"no image")
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png")

    def job(_):
        for _stem, _image, record in Photographs(images_in(tmp_path), None, quiet=True):
            print(f"read {record['source']}, not {name}\nहिन्दी, می\u200cشود", flush=True)
        raise ValueError(f"{name}: is not\nread")

    assert run(Parser(prog="job"), [], job) == 2
    out, err = capsys.readouterr()
    shown = r"a\x1b[2J\x9b\u202egpj.\udcff.jpg"
    assert out.endswith(f"b.png, not {shown}\nहिन्दी, می\u200cشود\n")
    skipped, failed = err.splitlines()
    assert skipped.startswith("skipped: ")
    assert f"{shown}: is not an image" in skipped
    assert failed == f"job: {shown}: is not read"

    with pytest.raises(SystemExit):
        Parser(prog="job").parse_args([name])
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {shown}\n")


def test_a_closed_pipe_ends_a_command_quietly():
    program = (
        "import sys; from visualization.cli.running import run\n"
        "from visualization.cli.arguments import Parser\n"
        "sys.exit(run(Parser(prog='job'), [], lambda _: print('x' * 10**6) or 0))"
    )
    done = subprocess.run(
        f"{sys.executable} -c \"{program}\" | head -c 1",
        shell=True, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("x", "")


def arguments(**given):
    return argparse.Namespace(**{"network": None, "weights": "imagenet", "model": None} | given)


def test_a_network_is_known_before_tensorflow_builds_it(squeezenet):
    network = Network(arguments())
    assert network.size == (224, 224)
    assert network.find_class("stingray") == 6
    assert len(network.record["sha256"]) == 64
    network.load()
    for ours, theirs in zip(network.model.weights, squeezenet.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_other_bundled_network_is_named_and_brings_its_size(lite2, grace_hopper):
    network = Network(arguments(network="efficientnet-lite2"))
    assert network.size == (260, 260)
    assert network.record["network"] == "efficientnet-lite2"
    network.load()
    for ours, theirs in zip(network.model.weights, lite2.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (other,) = network.others()
    assert other.record == Network(arguments()).record
    assert other.probabilities(grace_hopper[None]).argmax() == 457


def test_two_networks_at_once_are_refused(tmp_path):
    (tmp_path / "own.py").write_text(MODEL)
    own = f"{tmp_path / 'own.py'}:build"
    with pytest.raises(ValueError, match=r"--network squeezenet and --model .* are two networks"):
        Network(arguments(network="squeezenet", model=own))


def test_weights_of_the_other_network_are_refused_before_tensorflow_starts():
    weights = str(BUNDLE / EFFICIENTNET_LITE2)
    with pytest.raises(ValueError, match="is of another network, EfficientNet-Lite2"):
        Network(arguments(weights=weights))
    assert Network(arguments(network="efficientnet-lite2", weights=weights)).record["sha256"]


def test_the_convention_goes_with_the_weights(arrays, tmp_path):
    path = forms.write_keras2(tmp_path / "caffe.h5", arrays)
    network = Network(arguments(weights=str(path), convention="caffe"))
    assert network.record["input_convention"] == "caffe"
    network.load()
    expected = fold_caffe(arrays)["conv1/kernel"]
    np.testing.assert_array_equal(network.model.get_layer("conv1").kernel, expected)
    with pytest.raises(ValueError, match="--convention caffe is for --weights"):
        Network(arguments(model="own.py:build", convention="caffe"))
    with pytest.raises(ValueError, match="expected one of efficientnet-lite"):
        Network(arguments(network="efficientnet-lite2", convention="caffe"))
    with pytest.raises(ValueError, match="--convention caffe is for one network"):
        open_network(arguments(network=["squeezenet", "efficientnet-lite2"], convention="caffe"))


def test_a_users_model_brings_its_own_size_names_and_preprocessing(tmp_path):
    (tmp_path / "own.py").write_text(MODEL)
    network = Network(arguments(model=f"{tmp_path / 'own.py'}:build"))
    assert (network.size, list(network.names)) == (None, [])
    network.load()
    assert network.size == (8, 9)
    assert network.find_class("DOG") == 1
    assert network.specification.preprocess(np.float32(255)) == 1
    assert network.specification.bounds == (0, 255)
    assert network.others() == []


def test_loading_a_network_does_not_reseed_the_callers_generators():
    draws = []
    for seed in (3, 4):
        start_tensorflow(seed, quiet=True)
        Network(arguments()).load()
        draws.append((random.random(), np.random.random(), float(tf.random.uniform(()))))
    assert all(one != other for one, other in zip(*draws, strict=True))


def test_a_command_seeds_every_generator_at_its_start():
    draws = []
    for _ in range(2):
        start_tensorflow(seed=3, quiet=True)
        draws.append((random.random(), np.random.random(), float(tf.random.uniform(()))))
    assert draws[0] == draws[1]


def test_folders_stand_for_the_images_in_them(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    url = "http://example.org/c.png"
    expected = [str(tmp_path / "a.jpg"), str(tmp_path / "b.PNG"), url]
    assert image_sources([str(tmp_path), url]) == expected
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder without images"):
        image_sources([str(tmp_path / "empty")])


def test_of_many_photographs_a_bad_one_is_skipped_and_a_single_one_raises(tmp_path, capsys):
    Image.new("RGB", (4, 6), "red").save(tmp_path / "a.png")
    Image.new("RGB", (4, 6), "red").save(tmp_path / "A.bmp")
    (tmp_path / "bad.png").write_bytes(b"hello")
    photographs = Photographs(image_sources([str(tmp_path)]), (2, 2), quiet=True)
    found = {stem: image.shape for stem, image, _ in photographs}
    assert found == {"A": (2, 2, 3), "a-2": (2, 2, 3)}
    assert photographs.status() == 1
    assert "skipped: " in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"bad\.png: is not an image"):
        Photographs([str(tmp_path / "bad.png")], None, quiet=True)
    two = Photographs([str(tmp_path / "bad.png"), "none.png"], None, quiet=True)
    assert list(two) == []
    with pytest.raises(ValueError, match="none of the 2 images"):
        two.status()


def test_the_size_may_be_set_after_the_first_look(tmp_path):
    Image.new("RGB", (4, 6)).save(tmp_path / "a.png")
    photographs = Photographs([str(tmp_path / "a.png")], None, quiet=True)
    photographs.size = (3, 5)
    ((_, image, _),) = photographs
    assert image.shape == (3, 5, 3)


def test_names_of_files_come_from_free_text():
    assert file_stem("great white shark, Carcharodon/") == "great-white-shark-Carcharodon"
    assert file_stem("///") == "image"
    assert len(file_stem("图" * 99).encode()) == 99
    taken = set()
    assert [unused(stem, taken) for stem in ("a", "A", "a", "b")] == ["a", "A-2", "a-3", "b"]


def test_a_record_says_which_versions_ran_and_holds_no_nan(tmp_path):
    out = OutputFolder(tmp_path / "new" / "folder")
    text = out.write_json("a.json", {"seed": 1}).read_text()
    assert f'"keras": "{keras.__version__}"' in text
    with pytest.raises(ValueError, match="not JSON compliant"):
        out.write_json("a.json", {"seed": float("nan")})
    assert (tmp_path / "new" / "folder" / "a.json").read_text() == text

"""Nothing reaches the terminal of a user who did nothing wrong."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

SESSION = """
import sys
from pathlib import Path
import numpy as np
import visualization as v
from visualization.backend import keras

X = np.random.default_rng(0).random((3, 9, 8, 3), dtype=np.float32)
pixels, own = (255 * X).astype(np.uint8), {"preprocess": lambda pixels: pixels / 255}

def cell(activation):
    layers = [keras.layers.Conv2D(4, 3, name="c"), keras.layers.Flatten()]
    layers.append(keras.layers.Dense(3, activation))
    model = keras.Sequential([keras.Input((9, 8, 3)), *layers])
    for count in (1, 2, 3):
        v.compute_saliency_maps(X[:count], 1, model)
    v.grad_cam(X, v.unit_of("c", 1), model)
    v.make_fooling_image(X[:1], 1, model, max_iterations=1)
    v.make_fooling_images(pixels, None, model, max_iterations=1, **own)
    v.create_class_visualization(1, model, num_iterations=1, **own)

for i in range(int(sys.argv[1])):  # TensorFlow warns of retracing from the fifth on
    cell(("softmax", "sigmoid", None)[i % 3])

for path in sorted(Path(sys.argv[2]).iterdir()):
    try:
        v.load_image(path, 8)
    except ValueError as error:  # which is the user's to print
        assert path.stem.startswith("no"), error
"""


def header_of_a_large_png():
    """Only the header: Pillow warns of a decompression bomb, and there are no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + check


@pytest.fixture
def odd(tmp_path):
    """A folder of image files as people have them."""
    photo = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3))
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg")
    photo.convert("P").save(tmp_path / "palette.png", transparency=bytes(range(256)))
    photo.convert("LA").save(tmp_path / "grey.png")
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)).save(tmp_path / "deep.tif")
    photo.save(tmp_path / "turns.gif", save_all=True, append_images=[photo.rotate(90)])
    photo.save(tmp_path / "broken_exif.jpg", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff")
    photo.save(tmp_path / "whole.jpg")
    (tmp_path / "no_end.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:500])
    tiff = bytearray((tmp_path / "deep.tif").read_bytes())
    tiff[-60:] = b"\xff" * 60
    (tmp_path / "no_tags.tif").write_bytes(tiff)
    (tmp_path / "no_pixels.png").write_bytes(header_of_a_large_png())
    (tmp_path / "no_image.webp").write_text("<html>")
    (tmp_path / "nothing.png").write_bytes(b"")
    return tmp_path


@pytest.mark.slow
def test_many_models_and_a_folder_of_odd_files_leave_the_terminal_empty(odd):
    """Also TensorFlow's import; run in a process of its own, as by a user."""
    command = [sys.executable, "-c", SESSION, "6", str(odd)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)

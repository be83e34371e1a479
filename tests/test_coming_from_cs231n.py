"""The page for people who come from CS231n: its lines are run, notebook by notebook."""

import ast
import importlib
import re
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from tests.forms import write_tf2
from tests.tfcap.caption_folders import write_course
from visualization import predict_scores
from visualization.backend import keras, tf
from visualization.images.strokes import draw_strokes
from visualization.weight_files.loading import read_weights

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coming_from_cs231n.md"
EPOCHS = 3

# What the first cells of the notebooks bring beside what the page's tables replace.
SETUP = """
import time, os, json
import numpy as np
import matplotlib.pyplot as plt
def rel_error(x, y):
    return np.max(np.abs(x - y) / (np.maximum(1e-8, np.abs(x) + np.abs(y))))
"""


def sections():
    """By notebook: the code in the right column of its table, line by line, then its blocks."""
    found = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        lines = re.findall(r"^\|.*\| `([^`|]+)` \|$", text, re.MULTILINE)
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        found[title] = [*lines, *blocks]
    return found


@pytest.fixture
def in_the_courses_folder(tmp_path, monkeypatch, grace_hopper):
    """A working folder with cs231n/datasets, where the figures that are shown are counted."""
    datasets = tmp_path / "cs231n" / "datasets"
    write_course(datasets / "coco_captioning")
    X, y = np.repeat(grace_hopper[None], 5, axis=0), np.full(5, 457)
    np.savez(datasets / "imagenet_val_25.npz", X=X, y=y)
    write_tf2(datasets / "squeezenet.ckpt", read_weights("imagenet").arrays)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFCAP_DATA", raising=False)

    def unreachable(url, *_):
        raise OSError(f"{url}: there is no network here")

    monkeypatch.setattr("visualization.images.reading.fetch", unreachable)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.close()))
    return shown


def run(code, names):
    exec(compile(code, str(PAGE), "exec"), names)


def test_the_imports_are_of_public_names():
    imports = [
        node
        for codes in sections().values()
        for code in codes
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom)
    ]
    assert len(imports) > 8
    for node in imports:
        module = importlib.import_module(node.module)
        public = getattr(module, "__all__", dir(module))
        assert {alias.name for alias in node.names} <= {*public, "*"}


@pytest.mark.slow
def test_the_captioning_notebooks_run_with_the_pages_lines(in_the_courses_folder, capsys):
    keras.utils.set_random_seed(0)  # for weights and arrays of the gradient check
    names = {}
    run(SETUP, names)
    of_page = sections()
    for code in of_page["RNN_Captioning.ipynb"]:
        run(code.replace("epochs=50", f"epochs={EPOCHS}"), names)
    printed = capsys.readouterr().out
    found = re.findall(r"(?:difference|error): +(\S+)", printed)
    difference, *errors = map(float, found)
    assert difference < 1e-10
    assert len(errors) == 8
    assert max(errors) < 5e-6  # as the course asks
    losses = names["loss_history"]
    assert len(losses) == EPOCHS
    assert losses[-1] < losses[0]
    rate = names["small_rnn_model"].optimizer.learning_rate
    assert float(rate) == pytest.approx(5e-3 * 0.95 ** (EPOCHS - 1))

    # the course's cell, with show(url)
    run(
        """for split in ["train", "val"]:
            minibatch = sample_coco_minibatch(small_data, split=split, batch_size=2)
            gt_captions, features, urls = minibatch
            gt_captions = decode_captions(gt_captions, data["idx_to_word"])
            sample_captions = small_rnn_model.sample(features)
            sample_captions = decode_captions(sample_captions, data["idx_to_word"])
            for gt_caption, sample_caption, url in zip(gt_captions, sample_captions, urls):
                show(url)
                plt.title("%s\\n%s\\nGT:%s" % (split, sample_caption, gt_caption))
                plt.axis("off")
                plt.show()""",
        names,
    )
    assert len(in_the_courses_folder) == 4
    assert capsys.readouterr().out.count("there is no network here") == 4
    sentences = names["gt_captions"] + names["sample_captions"]
    assert not any(special in text for text in sentences for special in ("<START>", "<END>"))

    for code in of_page["LSTM_Captioning.ipynb"]:
        run(code, names)
    assert len(names["loss_history"]) == EPOCHS
    assert names["small_lstm_model"].cell_type == "lstm"


@pytest.mark.slow
def test_the_visualisation_notebook_runs_with_the_pages_lines(in_the_courses_folder):
    names = {}
    run(SETUP, names)
    for code in sections()["NetworkVisualization-TensorFlow.ipynb"]:
        run(code, names)
    assert names["saliency"].shape == (5, 224, 224)
    assert names["scores"][0].argmax() == 6
    assert names["class_names"][names["y"][0]].startswith("bow tie")
    before, after = predict_scores(names["model"], np.concatenate([names["X"][:1], names["out"]]))[
        :, 76
    ]
    assert after > 2 * max(before, 1)
    assert len(in_the_courses_folder) == 5  # after 1, 25, 50, 75 and 100 iterations

    # the course's own loop, of the later notebooks
    run(
        """X = preprocess_image(255 * np.random.rand(224, 224, 3))[None]
X = tf.Variable(X)
for t in range(3):
    ox, oy = np.random.randint(0, 16, 2)
    X = jitter(X, ox, oy)
    X = class_visualization_update_step(X, model, 76, 1e-3, 25)
    X = jitter(X, -ox, -oy)
    X = tf.clip_by_value(
        X, -SQUEEZENET_MEAN / SQUEEZENET_STD, (1.0 - SQUEEZENET_MEAN) / SQUEEZENET_STD
    )
    X = blur_image(X, sigma=0.5)
plt.imshow(deprocess_image(X[0]))""",
        names | {"tf": tf},
    )


def test_the_style_transfer_notebook_runs_with_the_pages_lines(in_the_courses_folder):
    styles = Path("styles")
    styles.mkdir()
    for name, seed in (("tubingen", 0), ("starry_night", 1)):
        Image.fromarray(draw_strokes(64, seed)).save(styles / f"{name}.jpg")
    names = {}
    run(SETUP, names)
    *lines, pictures = sections()["StyleTransfer-TensorFlow.ipynb"]
    for code in lines:
        run(code, names)
    shown = {"style_transfer": partial(names["style_transfer"], num_iterations=2)}
    run(pictures.replace("192", "64"), names | shown | {"plt": plt})
    assert len(in_the_courses_folder) == 1

    # what the course's own loop does with the parts
    run(
        """model = SqueezeNet()
X = tf.Variable(preprocess_image(np.random.uniform(0, 255, (1, 64, 80, 3))))
targets = [gram_matrix(f) for f in extract_features(tf.ones((1, 64, 64, 3)), model)]
with tf.GradientTape() as tape:
    feats = extract_features(X, model)
    loss = content_loss(6e-2, feats[3], tf.zeros_like(feats[3])) + tv_loss(X, 2e-2)
    loss += style_loss(feats, [0, 3], [targets[0], targets[3]], [300000, 1000])
gradient = tape.gradient(loss, X)
assert gradient.shape == X.shape and np.abs(gradient).max() > 0""",
        names | {"tf": tf},
    )

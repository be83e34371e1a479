"""The course's notebooks run by one substitution: their lines by year, with the course's numbers."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from tests.forms import write_tf2
from tests.tfcap.caption_folders import write_course
from tfcap import sample_coco_minibatch
from tfcap.course.captioning_solver import CaptioningSolver
from tfcap.course.classifiers.rnn import CaptioningRNN
from visualization.backend import tf
from visualization.images.strokes import draw_strokes
from visualization.weight_files.loading import read_weights

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coming_from_cs231n.md"
PATTERN, REPLACEMENT = re.search(r"sed -i.bak 's/(.+)/(.+)/g'", PAGE.read_text()).groups()

# RNN_Captioning and LSTM_Captioning, 2017 to 2024

SETUP = """
import time, os, json
import numpy as np
import matplotlib.pyplot as plt
from cs231n.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array
from cs231n.rnn_layers import *
from cs231n.captioning_solver import CaptioningSolver
from cs231n.classifiers.rnn import CaptioningRNN
from cs231n.coco_utils import load_coco_data, sample_coco_minibatch, decode_captions
from cs231n.image_utils import image_from_url
from cs231n.rnn_layers import rnn_step_forward, rnn_step_backward
from cs231n.rnn_layers import temporal_softmax_loss
from cs231n.rnn_layers import lstm_forward, lstm_backward

def rel_error(x, y):
    return np.max(np.abs(x - y) / (np.maximum(1e-8, np.abs(x) + np.abs(y))))
"""
LOSS = """
N, D, W, H = 10, 20, 30, 40
word_to_idx = {'<NULL>': 0, 'cat': 2, 'dog': 3}
V = len(word_to_idx)
T = 13
model = CaptioningRNN(word_to_idx, input_dim=D, wordvec_dim=W, hidden_dim=H,
                      cell_type=cell_type, dtype=np.float64)
for k, v in model.params.items():
    model.params[k] = np.linspace(-1.4, 1.3, num=v.size).reshape(*v.shape)
features = np.linspace(low, high, num=(N * D)).reshape(N, D)
captions = (np.arange(N * T) % V).reshape(N, T)
loss, grads = model.loss(features, captions)
"""
GRADIENTS = """
np.random.seed(231)
batch_size, timesteps, input_dim, wordvec_dim, hidden_dim = 2, 3, 4, 5, 6
word_to_idx = {'<NULL>': 0, 'cat': 2, 'dog': 3}
vocab_size = len(word_to_idx)
captions = np.random.randint(vocab_size, size=(batch_size, timesteps))
features = np.random.randn(batch_size, input_dim)
model = CaptioningRNN(word_to_idx, input_dim=input_dim, wordvec_dim=wordvec_dim,
                      hidden_dim=hidden_dim, cell_type=cell_type, dtype=np.float64)
loss, grads = model.loss(features, captions)
errors = {}
for param_name in sorted(grads):
    f = lambda _: model.loss(features, captions)[0]
    param_grad_num = eval_numerical_gradient(f, model.params[param_name], verbose=False, h=1e-6)
    errors[param_name] = rel_error(param_grad_num, grads[param_name])
"""
LOOK = """
data = load_coco_data(pca_features=True)
for k, v in data.items():
    if type(v) == np.ndarray:
        print(k, type(v), v.shape, v.dtype)
    else:
        print(k, type(v), len(v))
captions, features, urls = sample_coco_minibatch(data, batch_size=3)
for i, (caption, url) in enumerate(zip(captions, urls)):
    caption_str = decode_captions(caption, data['idx_to_word'])
small_data = load_coco_data(max_train=50)
"""
OVERFIT = """
small_model = CaptioningRNN(cell_type=cell_type, word_to_idx=data['word_to_idx'],
    input_dim=data['train_features'].shape[1], hidden_dim=64, wordvec_dim=32)
small_solver = CaptioningSolver(small_model, small_data, update_rule='adam', num_epochs=30,
    batch_size=25, optim_config={'learning_rate': 5e-3}, lr_decay=0.995, verbose=True, print_every=10)
small_solver.train()
plt.plot(small_solver.loss_history)
print('Final loss: ', small_solver.loss_history[-1])
"""
SAMPLE = """
for split in ['train', 'val']:
    minibatch = sample_coco_minibatch(small_data, split=split, batch_size=2)
    gt_captions, features, urls = minibatch
    gt_captions = decode_captions(gt_captions, data['idx_to_word'])
    sample_captions = small_model.sample(features)
    sample_captions = decode_captions(sample_captions, data['idx_to_word'])
    for gt_caption, sample_caption, url in zip(gt_captions, sample_captions, urls):
        img = image_from_url(url)
        if img is None: continue
        plt.imshow(img)
"""

# NetworkVisualization-TensorFlow, 2019 and 2020; in 2019 the functions are the notebook's own

PRETRAINED = """
import tensorflow as tf
from cs231n.classifiers.squeezenet import SqueezeNet
from cs231n.data_utils import load_tiny_imagenet
from cs231n.image_utils import preprocess_image, deprocess_image
from cs231n.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD

SAVE_PATH = 'cs231n/datasets/squeezenet.ckpt'
if not os.path.exists(SAVE_PATH + ".index"):
    raise ValueError("You need to download SqueezeNet!")
model = SqueezeNet()
status = model.load_weights(SAVE_PATH)
model.trainable = False

from cs231n.data_utils import load_imagenet_val
X_raw, y, class_names = load_imagenet_val(num=5)
X = np.array([preprocess_image(img) for img in X_raw])
"""
VISUALIZE = """
from cs231n.net_visualization_tensorflow import compute_saliency_maps
mask = np.arange(2)
saliency = compute_saliency_maps(X[mask], y[mask], model)

from cs231n.net_visualization_tensorflow import make_fooling_image
idx, target_y = 0, 6
Xi = X[idx][None]
X_fooling = make_fooling_image(Xi, target_y, model)
scores = model(X_fooling)
assert tf.math.argmax(scores[0]).numpy() == target_y, 'The network is not fooled!'
plt.imshow(deprocess_image(10 * (Xi - X_fooling)[0]))

from cs231n.net_visualization_tensorflow import class_visualization_update_step, jitter, blur_image
X = 255 * np.random.rand(224, 224, 3)
X = preprocess_image(X)[None]
X = tf.Variable(X)
for t in range(2):
    ox, oy = np.random.randint(0, 16, 2)
    X = jitter(X, ox, oy)
    X = class_visualization_update_step(X, model, target_y, 1e-3, 25)
    X = jitter(X, -ox, -oy)
    X = tf.clip_by_value(X, -SQUEEZENET_MEAN / SQUEEZENET_STD, (1.0 - SQUEEZENET_MEAN) / SQUEEZENET_STD)
    X = blur_image(X, sigma=0.5)
plt.imshow(deprocess_image(X[0]))
"""

# StyleTransfer-TensorFlow, 2019 and 2020

STYLE = """
from cs231n.image_utils import load_image, preprocess_image, deprocess_image
content_img_test = preprocess_image(load_image('styles/tubingen.jpg', size=40))[None]

from cs231n.style_transfer_tensorflow import content_loss, extract_features, rel_error
from cs231n.style_transfer_tensorflow import gram_matrix
from cs231n.style_transfer_tensorflow import style_loss
from cs231n.style_transfer_tensorflow import tv_loss

params_inv = {'content_image': 'styles/tubingen.jpg', 'style_image': 'styles/starry_night.jpg',
    'image_size': 40, 'style_size': 40, 'content_layer': 3, 'content_weight': 6e-2,
    'style_layers': [0, 3], 'style_weights': [0, 0], 'tv_weight': 2e-2, 'init_random': True}

initial_lr, decayed_lr, decay_lr_at = 3.0, 0.1, 180
step = tf.Variable(0, trainable=False)
learning_rate_fn = tf.keras.optimizers.schedules.PiecewiseConstantDecay(
    [decay_lr_at], [initial_lr, decayed_lr])
learning_rate = learning_rate_fn(step)
"""
OWN_LOOP = """
img_var = tf.Variable(content_img_test)
with tf.GradientTape() as tape:
    tape.watch(img_var)
    feats = extract_features(img_var, model)
    c_loss = content_loss(6e-2, feats[3], tf.zeros_like(feats[3]))
    s_loss = style_loss(feats, [0], [gram_matrix(tf.zeros_like(feats[0]))], [20])
    loss = c_loss + s_loss + tv_loss(img_var, 2e-2)
grad = tape.gradient(loss, img_var)
optimizer.apply_gradients([(grad, img_var)])
img_var.assign(tf.clip_by_value(img_var, -1.5, 1.5))
"""


def run(code, names):
    """The code after the page's substitution."""
    exec(compile(re.sub(PATTERN, REPLACEMENT, code), "notebook", "exec"), names)


def cells(heading):
    """The page's own code below a heading."""
    sections = dict(section.partition("\n")[::2] for section in PAGE.read_text().split("\n## "))
    return re.findall(r"^```python\n(.*?)^```$", sections[heading], re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def course(tmp_path_factory, grace_hopper):
    """A working folder with cs231n/datasets and styles."""
    folder = tmp_path_factory.mktemp("course")
    datasets = folder / "cs231n" / "datasets"
    write_course(datasets / "coco_captioning")
    np.savez(datasets / "imagenet_val_25.npz", X=grace_hopper[None].repeat(5, 0), y=np.full(5, 457))
    arrays = dict(read_weights("imagenet").arrays)
    arrays["conv10/bias"] = arrays["conv10/bias"] + np.float32(0.01)  # not the bundled weights
    write_tf2(datasets / "squeezenet.ckpt", arrays)
    (folder / "styles").mkdir()
    for name, seed in (("tubingen", 0), ("starry_night", 1)):
        Image.fromarray(draw_strokes(64, seed)).save(folder / "styles" / f"{name}.jpg")
    return folder


@pytest.fixture
def in_the_courses_folder(course, monkeypatch):
    """There, without a network; figures are not shown."""
    monkeypatch.chdir(course)
    monkeypatch.delenv("TFCAP_DATA", raising=False)

    def unreachable(url, *_):
        raise OSError(f"{url}: there is no network here")

    monkeypatch.setattr("visualization.images.reading.fetch", unreachable)
    monkeypatch.setattr(plt, "show", lambda: None)
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("cell_type", "low", "high", "expected"),  # the two notebooks have other features
    [("rnn", -1.5, 0.3, 9.83235591003), ("lstm", -0.5, 1.7, 9.82445935443)],
)
def test_the_captioners_check_of_the_loss_finds_the_courses_number(cell_type, low, high, expected):
    names = {"cell_type": cell_type, "low": low, "high": high}
    run(SETUP + LOSS, names)
    assert abs(names["loss"] - expected) < 1e-10


def test_the_captioners_check_of_the_gradients_finds_small_errors():
    names = {"cell_type": "rnn"}
    run(SETUP + GRADIENTS, names)
    assert names["loss"] > 0  # some targets are words: otherwise nothing is checked
    assert all(np.abs(gradient).max() > 0 for gradient in names["grads"].values())
    assert len(names["errors"]) == 8
    assert max(names["errors"].values()) < 5e-6  # as the course asks


def test_the_captioning_notebooks_load_overfit_and_sample(in_the_courses_folder, capsys):
    names = {"cell_type": "lstm"}
    run(SETUP + LOOK + OVERFIT, names)
    solver, printed = names["small_solver"], capsys.readouterr().out
    assert "train_captions" in printed
    assert len(solver.loss_history) == 60  # one a step
    first = f"(Iteration 1 / 60) loss: {solver.loss_history[0]:f}"
    assert first in printed
    assert printed.count("Iteration") == 6
    assert f"Final loss:  {solver.loss_history[-1]}" in printed
    assert solver.loss_history[-1] < 0.8 * solver.loss_history[0]
    assert names["small_data"]["train_captions"].shape[0] == 50

    run(SAMPLE, names)
    assert capsys.readouterr().out.count("there is no network here") == 4
    run(cells("# Coming from CS231n")[0], names | {"url": "http://images.example/gone.jpg"})
    assert "gone.jpg: there is no network here" in capsys.readouterr().out


def test_the_solvers_steps_are_the_courses():
    """Adam and its decay by the course's formulas, on the same batches."""
    np.random.seed(0)
    rng = np.random.default_rng(0)
    words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "cat": 4, "dog": 5}
    captions = rng.integers(1, 6, (6, 5))
    data = {"train_captions": captions, "train_image_idxs": np.arange(6)}
    data |= {"train_features": rng.standard_normal((6, 3)), "train_urls": np.array(["a"] * 6)}
    model = CaptioningRNN(words, 3, 4, 5, dtype=np.float64)
    params = {name: value.copy() for name, value in model.params.items()}
    solver = CaptioningSolver(
        model,
        data,
        update_rule="adam",
        optim_config={"learning_rate": 0.1, "beta1": 0.8},
        lr_decay=0.5,
        batch_size=3,
        num_epochs=2,
        verbose=False,
    )
    course, losses, rate = CaptioningRNN(words, 3, 4, 5, dtype=np.float64), [], 0.1
    np.random.seed(1)
    solver.train()

    np.random.seed(1)
    course.params = params
    m, v = (dict.fromkeys(params, 0.0) for _ in range(2))
    for t in range(1, 5):
        drawn, features, _ = sample_coco_minibatch(data, 3)
        loss, grads = course.loss(features, drawn)
        losses.append(loss)
        for name, gradient in grads.items():
            m[name] = 0.8 * m[name] + 0.2 * gradient
            v[name] = 0.999 * v[name] + 0.001 * gradient**2
            alpha = rate * np.sqrt(1 - 0.999**t) / (1 - 0.8**t)
            params[name] = params[name] - alpha * m[name] / (np.sqrt(v[name]) + 1e-8)
        rate *= 0.5 if t == 2 else 1
    np.testing.assert_allclose(solver.loss_history, losses, rtol=1e-5)
    for name, value in params.items():
        np.testing.assert_allclose(model.params[name], value, atol=1e-4)


def test_the_captioners_weights_are_drawn_by_numpy_and_read_anew():
    words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "cat": 4}
    first, again = (
        np.random.seed(231) or CaptioningRNN(words, 6, 4, 5, cell_type="lstm") for _ in range(2)
    )
    np.random.seed(231)
    assert first.params["W_embed"].dtype == np.float32
    np.testing.assert_allclose(first.params["W_embed"], np.random.randn(5, 4) / 100, rtol=1e-6)
    np.testing.assert_allclose(
        first.params["W_proj"], np.random.randn(6, 5) / np.sqrt(6), rtol=1e-6
    )
    for name, value in first.params.items():
        np.testing.assert_array_equal(value, again.params[name])

    first.params["b_vocab"][3] = 1000  # the course's sample bans no word
    assert (first.sample(np.ones((2, 6)), max_length=7) == np.full((2, 7), 3)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update_rule": "adagrad"}, "one of sgd, sgd_momentum, rmsprop, adam, received 'adagrad'"),
        ({"optim_config": {"rate": 1}}, "optim_config of sgd takes learning_rate, received rate"),
    ],
)
def test_the_solver_names_what_it_does_not_know(options, message):
    with pytest.raises(ValueError, match=message):
        CaptioningSolver(CaptioningRNN({"<NULL>": 0}, 2, 2, 2), {}, **options)


def test_the_visualisation_notebooks_run(in_the_courses_folder, grace_hopper):
    names = {}
    run("import os, numpy as np, matplotlib.pyplot as plt" + PRETRAINED + VISUALIZE, names)
    assert names["saliency"].shape == (2, 224, 224)
    assert names["class_names"][names["y"][0]].startswith("bow tie")
    model = names["model"]
    assert model.num_classes == 1000
    added = model.get_layer("conv10").bias.numpy() - read_weights("imagenet").arrays["conv10/bias"]
    np.testing.assert_allclose(added, 0.01, rtol=1e-3)

    # 2019's extract_features goes through the layers
    image = x = tf.constant(names["preprocess_image"](grace_hopper)[None])
    for layer in model.net.layers:
        x = layer(x)
    np.testing.assert_allclose(tf.reshape(x, (1, 1000)), model(image), rtol=1e-4)

    # 2017 and 2018, with the page's cells
    load, scores, drawing = cells("Notebooks of 2017 and 2018")
    run(load, names)
    np.testing.assert_array_equal(names["model"](image), model(image))
    names["model"] = model  # which has been compiled
    run(scores + drawing.replace("on_frame=", "num_iterations=2, on_frame="), names)
    assert names["out"].shape == (1, 224, 224, 3)


def test_the_style_transfer_notebooks_run_with_the_pages_lines(in_the_courses_folder):
    names = {}
    run("import os, numpy as np, matplotlib.pyplot as plt" + PRETRAINED + STYLE, names)
    schedule, ours = cells("StyleTransfer-TensorFlow")
    run(schedule + OWN_LOOP, names)
    assert names["img_var"].shape == (1, 40, 40, 3)
    assert float(tf.reduce_max(abs(names["img_var"] - names["content_img_test"]))) > 1
    run(ours.replace("**params_inv", "**params_inv, num_iterations=2"), names)
    assert names["X"].shape == (1, 40, 40, 3)

# %% [markdown]
# # 2. The LSTM, its gates, and gradients written by hand
#
# This notebook follows the second captioning notebook of CS231n's third assignment. We check the LSTM
# as we checked the vanilla network, train a captioner with it, and look at what its gates do while it
# speaks. Then we ask what a gradient written by hand is good for when TensorFlow can derive one: is it
# the same, and is it faster?

# %%
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, "..")  # the clone; not needed where tfcap is installed

# first, as they turn on oneDNN, which TensorFlow reads when it is imported
from tfcap.functional import (
    lstm_backward,
    lstm_forward,
    lstm_step_backward,
    lstm_step_forward,
)
from tfcap.gradient_check import eval_numerical_gradient_array, rel_error

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib_inline.backend_inline import set_matplotlib_formats

np.random.seed(231)
plt.rcParams["figure.figsize"] = 8, 4
set_matplotlib_formats("jpeg")  # a small file


def report(what, error, limit):
    print(f"{what:8} error {error:.0e}, below {limit:.0e}: {error < limit}")


# %% [markdown]
# ## One step
#
# The LSTM (Hochreiter and Schmidhuber 1997; the forget gate is from Gers, Schmidhuber and Cummins 2000)
# carries a second state along, the cell state $c$. Four gates are computed at once and then cut apart:
#
# $$a = x_t W_x + h_{t-1} W_h + b \in \mathbb{R}^{4H}, \qquad a = [a_i, a_f, a_o, a_g]$$
# $$i = \sigma(a_i) \qquad f = \sigma(a_f) \qquad o = \sigma(a_o) \qquad g = \tanh(a_g)$$
# $$c_t = f \cdot c_{t-1} + i \cdot g \qquad h_t = o \cdot \tanh(c_t)$$
#
# The forget gate $f$ says how much of the old cell state stays, the input gate $i$ how much of the new
# value $g$ comes in, and the output gate $o$ what of it is shown. Going back through $c_t$, a gradient
# is only multiplied by $f$ (beside what takes the way through the gates): where the network keeps $f$
# near 1, the gradient lives on.

# %%
N, D, H = 3, 4, 5
x = np.linspace(-0.4, 1.2, num=N * D).reshape(N, D)
prev_h = np.linspace(-0.3, 0.7, num=N * H).reshape(N, H)
prev_c = np.linspace(-0.4, 0.9, num=N * H).reshape(N, H)
Wx = np.linspace(-2.1, 1.3, num=4 * D * H).reshape(D, 4 * H)
Wh = np.linspace(-0.7, 2.2, num=4 * H * H).reshape(H, 4 * H)
b = np.linspace(0.3, 0.7, num=4 * H)

next_h, next_c, cache = lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b)
published = np.array(
    [
        [0.24635157, 0.28610883, 0.32240467, 0.35525807, 0.38474904],
        [0.49223563, 0.55611431, 0.61507696, 0.66844003, 0.7159181],
        [0.56735664, 0.66310127, 0.74419266, 0.80889665, 0.858299],
    ]
)
report("next_h", rel_error(published, next_h), 1e-7)

# %% [markdown]
# ## Backward
#
# A step gets two gradients from above: $dh_t$, and $dc_t$ from the next step. The numerical gradient
# has to add up what both do.

# %%
N, D, H = 4, 5, 6
x, prev_h, prev_c = np.random.randn(N, D), np.random.randn(N, H), np.random.randn(N, H)
Wx, Wh, b = np.random.randn(D, 4 * H), np.random.randn(H, 4 * H), np.random.randn(4 * H)

next_h, next_c, cache = lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b)
dnext_h, dnext_c = np.random.randn(*next_h.shape), np.random.randn(*next_c.shape)
gradients = lstm_step_backward(dnext_h, dnext_c, cache)

arguments = {"x": x, "prev_h": prev_h, "prev_c": prev_c, "Wx": Wx, "Wh": Wh, "b": b}
for (name, argument), gradient in zip(arguments.items(), gradients, strict=True):
    numerical = sum(
        eval_numerical_gradient_array(
            lambda _, k=k: lstm_step_forward(*arguments.values())[k], argument, upstream
        )
        for k, upstream in enumerate((dnext_h, dnext_c))
    )
    report(f"d{name}", rel_error(numerical, gradient), 1e-6)

# %% [markdown]
# And the whole sequence. The course's `lstm_forward` begins with a cell state of zero.

# %%
N, T, D, H = 2, 3, 5, 4
x = np.linspace(-0.4, 0.6, num=N * T * D).reshape(N, T, D)
h0 = np.linspace(-0.4, 0.8, num=N * H).reshape(N, H)
Wx = np.linspace(-0.2, 0.9, num=4 * D * H).reshape(D, 4 * H)
Wh = np.linspace(-0.3, 0.6, num=4 * H * H).reshape(H, 4 * H)
b = np.linspace(0.2, 0.7, num=4 * H)

h, _ = lstm_forward(x, h0, Wx, Wh, b)
published = np.array(
    [
        [
            [0.01764008, 0.01823233, 0.01882671, 0.0194232],
            [0.11287491, 0.12146228, 0.13018446, 0.13902939],
            [0.31358768, 0.33338627, 0.35304453, 0.37250975],
        ],
        [
            [0.45767879, 0.4761092, 0.4936887, 0.51041945],
            [0.6704845, 0.69350089, 0.71486014, 0.7346449],
            [0.81733511, 0.83677871, 0.85403753, 0.86935314],
        ],
    ]
)
report("h", rel_error(published, h), 1e-7)

# %%
N, T, D, H = 2, 10, 3, 6
x, h0 = np.random.randn(N, T, D), np.random.randn(N, H)
Wx, Wh, b = np.random.randn(D, 4 * H), np.random.randn(H, 4 * H), np.random.randn(4 * H)

out, cache = lstm_forward(x, h0, Wx, Wh, b)
dout = np.random.randn(*out.shape)
gradients = lstm_backward(dout, cache)

arguments = {"x": x, "h0": h0, "Wx": Wx, "Wh": Wh, "b": b}
for (name, argument), gradient in zip(arguments.items(), gradients, strict=True):
    numerical = eval_numerical_gradient_array(
        lambda _: lstm_forward(x, h0, Wx, Wh, b)[0], argument, dout
    )
    report(f"d{name}", rel_error(numerical, gradient), 1e-5)

# %% [markdown]
# ## What is left of a gradient
#
# The experiment of the first notebook again: a gradient of length 1 arrives at the last of fifty steps.
# How much of it reaches earlier ones? We give the forget gate different biases; the course begins with
# zero, Keras with one. With a bias of 3, $f$ is about 0.95: the gradient does not die, and as each step
# adds what comes through the gates to it, it can even grow. So an LSTM's gradients are clipped.

# %%
T, H = 50, 64
rng = np.random.default_rng(0)
x, h0 = 0.1 * rng.standard_normal((1, T, H)), np.zeros((1, H))
Wx = rng.standard_normal((H, 4 * H)) / np.sqrt(H)
Wh = rng.standard_normal((H, 4 * H)) / np.sqrt(H)
dout = np.zeros((1, T, H))
dout[0, -1] = rng.standard_normal(H)
dout /= np.linalg.norm(dout)

for forget in (0, 1, 3):
    b = np.zeros(4 * H)
    b[H : 2 * H] = forget
    _, cache = lstm_forward(x, h0, Wx, Wh, b)
    dx = lstm_backward(dout, cache)[0]
    plt.semilogy(range(T, 0, -1), np.linalg.norm(dx[0], axis=1), label=f"forget bias {forget}")
plt.gca().invert_xaxis()
plt.xlabel("steps before the end")
plt.ylabel("$|dx_t|$")
plt.title("An open forget gate lets the gradient pass")
plt.legend()
plt.show()
# %% [markdown]
# ## The captioner with an LSTM
#
# First the published loss, then fifty captions by heart, with the course's settings for the LSTM: the
# learning rate falls by 0.5 % an epoch.

# %%
from tfcap import CaptioningRNN, decode_captions, load_coco_data, make_shapes

N, D, W, H, T = 10, 20, 30, 40, 13
model = CaptioningRNN({"<NULL>": 0, "cat": 2, "dog": 3}, D, W, H, "lstm", dtype="float64")
for parameter in model.parameters.values():
    shape = tuple(parameter.shape)
    parameter.assign(np.linspace(-1.4, 1.3, num=np.prod(shape)).reshape(shape))

features = np.linspace(-0.5, 1.7, num=N * D).reshape(N, D)
captions = (np.arange(N * T) % 3).reshape(N, T)
loss, gradients = model.loss_and_gradients(features, captions)
print(f"loss {float(loss):.11f}, published 9.82445935443")
print("they differ by less than 1e-10:", abs(float(loss) - 9.82445935443) < 1e-10)

# %%
found = sorted(Path(os.environ.get("TFCAP_DATA", ".")).glob("*/*_captions.h5"))
if found:
    folder = found[0].parent
else:
    print("neither COCO's captions nor Flickr8k's are at hand: drawing shapes")
    folder = Path(tempfile.mkdtemp())
    make_shapes(folder, train=200, val=40)
data = load_coco_data(folder)

keras.utils.set_random_seed(0)
_, rows = np.unique(data["train_image_idxs"][:], return_index=True)  # one caption an image
rows = np.sort(rows[:50])
features = data["train_features"][data["train_image_idxs"][rows]]
captions = data["train_captions"][rows]

model = CaptioningRNN(
    data["word_to_idx"],
    features.shape[1],
    cell_type="lstm",
    feature_mean=features.mean(0),
    feature_std=features.std(0) + 1e-3,
)
model.compile(keras.optimizers.Adam(5e-3))
decay = keras.callbacks.LearningRateScheduler(lambda epoch: 5e-3 * 0.995**epoch)
history = model.fit(features, captions, batch_size=25, epochs=50, verbose=0, callbacks=[decay])
print("below 0.1:", history.history["loss"][-1] < 0.1)

plt.plot(history.history["loss"])
plt.xlabel("epoch")
plt.ylabel("loss")
plt.title("Training loss history")
plt.show()
# %% [markdown]
# ## What the gates do
#
# We let the trained network say one caption and compute its gates from its own weights. A column is a
# word that it has just heard, a row one of its hidden units; shown are the sixteen whose forget gates
# change most. Look for units whose forget gate stays open over a phrase and closes after it: they
# count, or remember something to be said later.

# %%
parameters = {name: value.numpy() for name, value in model.parameters.items()}
words = captions[0][: np.flatnonzero(captions[0] == model.ids.end)[0]]
h = ((features[:1] - model.feature_mean) / model.feature_std) @ parameters["W_proj"]
h, c = h + parameters["b_proj"], np.zeros_like(h)
gates = {"input gate i": [], "forget gate f": [], "output gate o": [], "cell state c": []}
for word in words:
    x = parameters["W_embed"][[word]]
    a = x @ parameters["Wx"] + h @ parameters["Wh"] + parameters["b"]
    i, f, o = (1 / (1 + np.exp(-part)) for part in np.split(a, 4, axis=1)[:3])
    h, c, _ = lstm_step_forward(x, h, c, parameters["Wx"], parameters["Wh"], parameters["b"])
    for rows_, value in zip(gates.values(), (i, f, o, c), strict=True):
        rows_.append(value[0])

figure, axes = plt.subplots(1, 4, figsize=(14, 5), sharey=True, layout="constrained")
units = np.argsort(np.std(gates["forget gate f"], axis=0))[-16:]
for axis, (name, values) in zip(axes, gates.items(), strict=True):
    values = np.array(values).T[units]
    limits = {"vmin": 0, "vmax": 1, "cmap": "viridis"} if "gate" in name else {"cmap": "PuOr_r"}
    if "gate" not in name:
        limits |= {"vmin": -np.abs(values).max(), "vmax": np.abs(values).max()}
    drawn = axis.imshow(values, aspect="auto", **limits)
    axis.set_xticks(range(len(words)), [data["idx_to_word"][word] for word in words], rotation=90)
    axis.set_title(name)
    figure.colorbar(drawn, ax=axis, location="bottom")
axes[0].set_yticks(range(len(units)), units)
axes[0].set_ylabel("hidden unit")
print("says:", decode_captions(model.sample(features[:1]), data["idx_to_word"])[0])

# %% [markdown]
# ## By hand, or derived?
#
# `tfcap.ops.lstm` is the pair of `tfcap.functional` made one differentiable op by
# `tf.custom_gradient`. Beside it, the same LSTM written plainly, whose gradient TensorFlow derives.

# %%
from tfcap import ops


def plain_lstm(x, h, Wx, Wh, b):
    c = tf.zeros_like(h)
    hs = []
    for t in range(x.shape[1]):
        a_i, a_f, a_o, a_g = tf.split(x[:, t] @ Wx + h @ Wh + b, 4, axis=1)
        c = tf.sigmoid(a_f) * c + tf.sigmoid(a_i) * tf.tanh(a_g)
        h = tf.sigmoid(a_o) * tf.tanh(c)
        hs.append(h)
    return tf.stack(hs, axis=1)


def gradients_of(lstm, **options):
    @tf.function(**options)
    def run(dh, *arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            h = lstm(*arguments)
        return tape.gradient(h, arguments, dh)

    return run


by_hand = gradients_of(lambda *arguments: ops.lstm(*arguments)[0])
derived = gradients_of(plain_lstm)
derived_by_xla = gradients_of(plain_lstm, jit_compile=True)

N, T, D, H = 25, 16, 256, 512
rng = np.random.default_rng(0)
arguments = [rng.standard_normal((N, T, D)), rng.standard_normal((N, H))]
arguments += [rng.standard_normal((D, 4 * H)) / 16, rng.standard_normal((H, 4 * H)) / 23]
arguments += [np.zeros(4 * H)]
arguments = [tf.constant(value, tf.float32) for value in arguments]
dh = tf.random.stateless_normal((N, T, H), seed=(0, 0))

for name, ours, theirs in zip(
    ("dx", "dh0", "dWx", "dWh", "db"), by_hand(dh, *arguments), derived(dh, *arguments), strict=True
):
    difference = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    print(f"{name:4} differs by less than 1e-5 of its length:", difference < 1e-5)

# %% [markdown]
# They are the same. And the time? The derived gradient has one matrix product a step for each weight;
# by hand, one knows that the gradients of all steps can be had by a single product after the loop:
# $dW_x = \sum_t x_t^T da_t$ is one product of (D, NT) with (NT, 4H). `ops.lstm` is also compiled by
# XLA, so we let XLA compile the plain one too, which unrolls it: look at how long that takes. (The
# figures are of the machine that made this notebook.)

# %% tags=["varies"]
runs = {
    "by hand": by_hand,
    "derived by TensorFlow": derived,
    "derived, compiled by XLA": derived_by_xla,
}
for name, run in runs.items():
    start = time.perf_counter()
    run(dh, *arguments)[0].numpy()
    print(f"{name:25} first call {time.perf_counter() - start:6.1f} s")

times = {name: [] for name in runs}
for _ in range(7):
    for name, run in runs.items():
        start = time.perf_counter()
        run(dh, *arguments)[0].numpy()
        times[name].append(1e3 * (time.perf_counter() - start))
for name, values in times.items():
    print(f"{name:25} {np.median(values):6.1f} ms")

# %% [markdown]
# ## Where to look
#
# So far the image is one vector, and the LSTM has to remember all of it. With attention (Xu et al.
# 2015, *Show, attend and tell*; the lecture's slides on image captioning with attention) the image
# stays a grid of cells, and the LSTM looks at them before each word. Its last hidden state asks, every
# cell has a key that may answer and a value that is then seen (Vaswani et al. 2017, section 3.2):
#
# $$q = h_{t-1} W_q \qquad s_l = \frac{q \cdot k_l}{\sqrt d} \qquad w = \mathrm{softmax}(s) \qquad
# z_t = \sum_l w_l v_l$$
#
# and the context $z_t$ joins the input of the gates: $a = x_t W_x + h_{t-1} W_h + z_t W_z + b$.
# Backward, with $dz$ from the gates:
#
# $$dv_l = w_l\, dz \qquad dw_l = dz \cdot v_l \qquad ds_l = w_l \Big(dw_l - \sum_m w_m\, dw_m\Big)
# \qquad dq = \frac{1}{\sqrt d} \sum_l ds_l\, k_l \qquad dk_l = \frac{1}{\sqrt d}\, ds_l\, q$$
#
# A cell's score rises if seeing more of it would help more than seeing more of what is seen already.
# These are `attention_forward` and `attention_backward`, with several heads side by side.

# %%
from tfcap.functional import attention_backward, attention_forward

rng = np.random.default_rng(0)
q, keys, values, dout = (rng.standard_normal(shape) for shape in [(2, 4), *2 * [(2, 5, 4)], (2, 4)])
out, weights, cache = attention_forward(q, keys, values, heads=2)
gradients = attention_backward(dout, cache)
print("the weights of each head add up to one:", np.allclose(weights.sum(axis=2), 1))
for name, x, gradient in zip(("dq", "dkeys", "dvalues"), (q, keys, values), gradients, strict=True):

    def f(changed, name=name):
        arguments = {"q": q, "keys": keys, "values": values} | {name[1:]: changed}
        return attention_forward(**arguments, heads=2)[0]

    report(name, rel_error(eval_numerical_gradient_array(f, x, dout), gradient), 1e-6)

# %% [markdown]
# The captioner in the box works so. It was trained on the 6,000 photographs of Flickr8k's training
# set, of which each has 9 x 9 cells. What does it say of a photograph that it has never seen, and where
# does it look for each word? (In colour: the mean of its eight heads.)

# %%
from matplotlib import cbook

from tfcap import load_captioner
from tfcap.plotting import attention_figure
from visualization import load_image

with cbook.get_sample_data("grace_hopper.jpg") as file:
    photograph = load_image(file.read())
sentence, weights = load_captioner().caption(photograph, attention=True)
print(sentence)
attention_figure(photograph, sentence.split(), weights)

# %% [markdown]
# Function words such as "a" and "in" need no look, so that their maps mean little. And a map
# shows where the captioner looked, not why it chose the word: `python -m tfcap.caption --explain` hides
# the brightest part and measures how much less likely the word becomes.

# %% [markdown]
# ## Questions
#
# 1. Why is $h_t = o \cdot \tanh(c_t)$ and not $o \cdot c_t$?
# 2. With a forget gate that is always 1 and an input gate that is always 1, what does $c_t$ compute?
# 3. The network steps through `<NULL>` words; only the loss leaves them out. Does that matter?
# 4. If all keys of an image are equal, what does attention see, and what are $dk$ and $dq$?

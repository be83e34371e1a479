# %% [markdown]
# # 1. A recurrent network that says what it sees
#
# This notebook follows the first captioning notebook of CS231n's third assignment. We take a vanilla
# recurrent network apart, check each piece against numbers that the course published and against
# numerical gradients, and then let the whole captioner learn fifty captions by heart.
#
# What we read and call is `tfcap.functional`: each operation is a forward function with its backward
# function below it, NumPy in and NumPy out. Open that file beside this notebook.

# %%
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, "..")  # the clone; not needed where tfcap is installed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats

from tfcap.functional import (
    rnn_backward,
    rnn_forward,
    rnn_step_backward,
    rnn_step_forward,
    temporal_affine_backward,
    temporal_affine_forward,
    temporal_softmax_loss,
    word_embedding_backward,
    word_embedding_forward,
)
from tfcap.gradient_check import eval_numerical_gradient_array, rel_error

np.random.seed(231)
plt.rcParams["figure.figsize"] = 8, 4
set_matplotlib_formats("jpeg")  # a small file


def report(what, error, limit):
    print(f"{what:8} error {error:.0e}, below {limit:.0e}: {error < limit}")


# %% [markdown]
# ## One step forward
#
# A recurrent network reads a sequence $x_1, x_2, \dots$ and carries a hidden state $h$ along:
#
# $$h_t = \tanh(x_t W_x + h_{t-1} W_h + b)$$
#
# With N sequences in a batch, $x_t$ is (N, D), $h_t$ is (N, H), $W_x$ is (D, H) and $W_h$ is (H, H).
# The course gives the result for arguments made by `linspace`. The error should be below 1e-8.

# %%
N, D, H = 3, 10, 4
x = np.linspace(-0.4, 0.7, num=N * D).reshape(N, D)
prev_h = np.linspace(-0.2, 0.5, num=N * H).reshape(N, H)
Wx = np.linspace(-0.1, 0.9, num=D * H).reshape(D, H)
Wh = np.linspace(-0.3, 0.7, num=H * H).reshape(H, H)
b = np.linspace(-0.2, 0.4, num=H)

next_h, _ = rnn_step_forward(x, prev_h, Wx, Wh, b)
published = np.array(
    [
        [-0.58172089, -0.50182032, -0.41232771, -0.31410098],
        [0.66854692, 0.79562378, 0.87755553, 0.92795967],
        [0.97934501, 0.99144213, 0.99646691, 0.99854353],
    ]
)
report("next_h", rel_error(published, next_h), 1e-8)

# %% [markdown]
# ## One step backward
#
# Let $a$ be the argument of tanh. As $\tanh' = 1 - \tanh^2$, the gradient of the loss with respect to
# $a$ is $da = dh_t \cdot (1 - h_t^2)$. Everything else is a matrix product with it:
#
# $$dx = da\,W_x^T \qquad dh_{t-1} = da\,W_h^T \qquad dW_x = x^T da \qquad dW_h = h_{t-1}^T da \qquad
# db = \textstyle\sum_n da_n$$
#
# How do we know that we derived this right? By changing each number a little and looking what happens:
# $\partial f / \partial x \approx (f(x + h) - f(x - h)) / 2h$.

# %%
N, D, H = 4, 5, 6
x, prev_h = np.random.randn(N, D), np.random.randn(N, H)
Wx, Wh, b = np.random.randn(D, H), np.random.randn(H, H), np.random.randn(H)

out, cache = rnn_step_forward(x, prev_h, Wx, Wh, b)
dnext_h = np.random.randn(*out.shape)
gradients = rnn_step_backward(dnext_h, cache)

arguments = {"x": x, "prev_h": prev_h, "Wx": Wx, "Wh": Wh, "b": b}
for (name, argument), gradient in zip(arguments.items(), gradients, strict=True):
    numerical = eval_numerical_gradient_array(
        lambda _: rnn_step_forward(x, prev_h, Wx, Wh, b)[0], argument, dnext_h
    )
    report(f"d{name}", rel_error(numerical, gradient), 1e-7)

# %% [markdown]
# ## All steps, forward and backward
#
# `rnn_forward` takes a whole sequence (N, T, D). Going back, the state of each step is used twice: by
# whatever stands above it, and by the next step. So the gradient that arrives at $h_t$ is a sum:
#
# $$dh_t^{\text{total}} = dh_t^{\text{from above}} + da_{t+1} W_h^T$$
#
# This is backpropagation through time (Werbos 1990). First the course's numbers for the way forward,
# then the gradients.

# %%
N, T, D, H = 2, 3, 4, 5
x = np.linspace(-0.1, 0.3, num=N * T * D).reshape(N, T, D)
h0 = np.linspace(-0.3, 0.1, num=N * H).reshape(N, H)
Wx = np.linspace(-0.2, 0.4, num=D * H).reshape(D, H)
Wh = np.linspace(-0.4, 0.1, num=H * H).reshape(H, H)
b = np.linspace(-0.7, 0.1, num=H)

h, _ = rnn_forward(x, h0, Wx, Wh, b)
published = np.array(
    [
        [
            [-0.42070749, -0.27279261, -0.11074945, 0.05740409, 0.22236251],
            [-0.39525808, -0.2255466, -0.0409454, 0.14649412, 0.32397316],
            [-0.42305111, -0.24223728, -0.04287027, 0.15997045, 0.35014525],
        ],
        [
            [-0.55857474, -0.39065825, -0.19198182, 0.02378408, 0.23735671],
            [-0.27150199, -0.07088804, 0.13562939, 0.33099728, 0.50158768],
            [-0.51014825, -0.30524429, -0.06755202, 0.17806392, 0.40333043],
        ],
    ]
)
report("h", rel_error(published, h), 1e-7)

# %%
N, T, D, H = 2, 10, 3, 5
x, h0 = np.random.randn(N, T, D), np.random.randn(N, H)
Wx, Wh, b = np.random.randn(D, H), np.random.randn(H, H), np.random.randn(H)

out, cache = rnn_forward(x, h0, Wx, Wh, b)
dout = np.random.randn(*out.shape)
gradients = rnn_backward(dout, cache)

arguments = {"x": x, "h0": h0, "Wx": Wx, "Wh": Wh, "b": b}
for (name, argument), gradient in zip(arguments.items(), gradients, strict=True):
    numerical = eval_numerical_gradient_array(
        lambda _: rnn_forward(x, h0, Wx, Wh, b)[0], argument, dout
    )
    report(f"d{name}", rel_error(numerical, gradient), 1e-6)

# %% [markdown]
# ## Why this is hard to train
#
# Let a gradient of length 1 arrive at the last of fifty steps only, and look how much of it is left as
# it travels back. Each step multiplies it by $W_h^T$ and by $1 - h^2$. Small weights let it die: with
# half the size, a millionth of it is left after twenty steps or so. Large weights make up for that, but
# they also drive the tanh towards its flat ends, where $1 - h^2$ is small; that is why the gradient of
# the largest weights below does not grow by a factor of two in each step. The network can only learn
# what happens over many steps if its weights are of the right size, and must keep them so. This is
# what the LSTM of the next notebook is for.

# %%
T, H = 50, 64
rng = np.random.default_rng(0)
x, h0 = 0.1 * rng.standard_normal((1, T, H)), np.zeros((1, H))
W = rng.standard_normal((H, H)) / np.sqrt(H)
dout = np.zeros((1, T, H))
dout[0, -1] = rng.standard_normal(H)
dout /= np.linalg.norm(dout)

for scale in (0.5, 0.9, 1.1, 2.0):
    _, cache = rnn_forward(x, h0, W, scale * W, np.zeros(H))
    dx = rnn_backward(dout, cache)[0]
    plt.semilogy(range(T, 0, -1), np.linalg.norm(dx[0], axis=1), label=f"{scale} $W_h$")
plt.gca().invert_xaxis()
plt.xlabel("steps before the end")
plt.ylabel("$|dx_t|$")
plt.title("How much of a gradient at the last step arrives at earlier ones")
plt.legend()
plt.show()
# %% [markdown]
# ## Words in, scores out
#
# A word is a row of a matrix $W_{embed}$ (V, D). Going back, a word that occurs several times collects
# several gradients, which add up: below, word 1 occurs three times, word 2 never.

# %%
words = np.array([[0, 1, 1], [3, 1, 0]])
vectors, cache = word_embedding_forward(words, np.random.randn(4, 2))
print("three words as vectors:", vectors.shape)
print(word_embedding_backward(np.ones((2, 3, 2)), cache))

W = np.random.randn(4, 2)
out, cache = word_embedding_forward(words, W)
dout = np.random.randn(*out.shape)
numerical = eval_numerical_gradient_array(lambda W: word_embedding_forward(words, W)[0], W, dout)
report("dW", rel_error(numerical, word_embedding_backward(dout, cache)), 1e-7)

# %% [markdown]
# Above the hidden states, the same affine map at every step gives each word of the vocabulary a score:

# %%
N, T, D, V = 2, 3, 4, 5
x, w, b = np.random.randn(N, T, D), np.random.randn(D, V), np.random.randn(V)
out, cache = temporal_affine_forward(x, w, b)
dout = np.random.randn(*out.shape)
arguments = {"x": x, "w": w, "b": b}
gradients = temporal_affine_backward(dout, cache)
for (name, argument), gradient in zip(arguments.items(), gradients, strict=True):
    numerical = eval_numerical_gradient_array(
        lambda _: temporal_affine_forward(x, w, b)[0], argument, dout
    )
    report(f"d{name}", rel_error(numerical, gradient), 1e-7)

# %% [markdown]
# The loss is the cross entropy with the word that comes next, summed over time and divided by N
# only. With scores that are all alike, every word has probability 1/V: the loss of T steps should be
# about T log V. That is worth a check whenever one begins to train something.

# %%
N, T, V = 100, 10, 10
scores, targets = 0.001 * np.random.randn(N, T, V), np.random.randint(V, size=(N, T))
loss, dscores = temporal_softmax_loss(scores, targets, np.ones((N, T), bool))
print(f"loss {loss:.2f}, T log V = {T * np.log(V):.2f}")

N = 5000
scores, targets = 0.001 * np.random.randn(N, T, V), np.random.randint(V, size=(N, T))
loss, _ = temporal_softmax_loss(scores, targets, np.random.rand(N, T) <= 0.1)
print("a tenth of the steps counts: between 2.0 and 2.6:", bool(2.0 < loss < 2.6))

N, T, V = 7, 8, 9
scores, targets = np.random.randn(N, T, V), np.random.randint(V, size=(N, T))
mask = np.random.rand(N, T) > 0.5
_, dscores = temporal_softmax_loss(scores, targets, mask)
numerical = eval_numerical_gradient_array(
    lambda scores: np.array(temporal_softmax_loss(scores, targets, mask)[0]), scores, np.array(1.0)
)
report("dscores", rel_error(numerical, dscores), 1e-6)

# %% [markdown]
# ## The captioner
#
# Now the parts become one model, `CaptioningRNN`. The features of an image become the first hidden
# state, $h_0 = features\,W_{proj} + b_{proj}$; from `<START>` on, the network says the next word. Its
# layers call the functions above, so the gradients that train it are the ones we just checked. The
# course published the loss for one setting of all weights:

# %%
from tfcap import CaptioningRNN

N, D, W, H, T = 10, 20, 30, 40, 13
model = CaptioningRNN({"<NULL>": 0, "cat": 2, "dog": 3}, D, W, H, "rnn", dtype="float64")
for parameter in model.parameters.values():
    shape = tuple(parameter.shape)
    parameter.assign(np.linspace(-1.4, 1.3, num=np.prod(shape)).reshape(shape))

features = np.linspace(-1.5, 0.3, num=N * D).reshape(N, D)
captions = (np.arange(N * T) % 3).reshape(N, T)
loss, gradients = model.loss_and_gradients(features, captions)
print(f"loss {float(loss):.11f}, published 9.83235591003")
print("they differ by less than 1e-10:", abs(float(loss) - 9.83235591003) < 1e-10)

# %% [markdown]
# ## Captions
#
# The course's captions are COCO's, 400,000 of them, in a folder `coco_captioning`. Flickr8k will do as
# well, made into the same layout by `python -m tfcap.datasets build Flickr8k --out flickr8k`. If the
# folder that `$TFCAP_DATA` names has neither, we draw a small set of our own: coloured shapes, with
# captions that say what is to be seen. (COCO's folder has links in the place of images; most are dead,
# and the figures below then say so.)

# %%
from tfcap import decode_captions, load_coco_data, make_shapes

found = sorted(Path(os.environ.get("TFCAP_DATA", ".")).glob("*/*_captions.h5"))
if found:
    folder = found[0].parent
else:
    print("neither COCO's captions nor Flickr8k's are at hand: drawing shapes")
    folder = Path(tempfile.mkdtemp())
    make_shapes(folder, train=200, val=40)
data = load_coco_data(folder)
for name, value in data.items():
    print(f"{name:18}", getattr(value, "shape", None) or f"{len(value)} words or letters")

# %%
from tfcap.plotting import dataset_figure

images = np.arange(4)
sentences = [
    decode_captions(
        data["train_captions"][data["train_image_idxs"][:] == image][:2], data["idx_to_word"]
    )
    for image in images
]
dataset_figure(
    list(data["train_urls"][images]), sentences, "Training images and what is said of them"
)

# %% [markdown]
# ## Fifty captions by heart
#
# A model that cannot learn fifty captions by heart has a fault. The course's settings: batches of 25,
# Adam with a learning rate of 5e-3 that falls by 5 % an epoch, 50 epochs. The loss should end below
# 0.1.

# %%
import keras

keras.utils.set_random_seed(0)
_, rows = np.unique(data["train_image_idxs"][:], return_index=True)  # one caption an image
rows = np.sort(rows[:50])
features = data["train_features"][data["train_image_idxs"][rows]]
captions = data["train_captions"][rows]

model = CaptioningRNN(
    data["word_to_idx"],
    features.shape[1],
    cell_type="rnn",
    feature_mean=features.mean(0),
    feature_std=features.std(0) + 1e-3,
)
model.compile(keras.optimizers.Adam(5e-3))
decay = keras.callbacks.LearningRateScheduler(lambda epoch: 5e-3 * 0.95**epoch)
history = model.fit(features, captions, batch_size=25, epochs=50, verbose=0, callbacks=[decay])
losses = history.history["loss"]
print("below 0.1:", losses[-1] < 0.1)

plt.plot(losses)
plt.xlabel("epoch")
plt.ylabel("loss")
plt.title("Training loss history")
plt.show()
# %% [markdown]
# ## Sentences
#
# At test time the network hears its own words: `sample` starts with `<START>` and feeds back the word
# with the highest score, until that is `<END>`. On training images it should say what it learned.

# %%


def show(split, images, title):
    said = decode_captions(model.sample(data[f"{split}_features"][images]), data["idx_to_word"])
    image_idxs = data[f"{split}_image_idxs"][:]
    first = [np.flatnonzero(image_idxs == image)[0] for image in images]  # of five captions
    truth = decode_captions(data[f"{split}_captions"][first], data["idx_to_word"])
    lines = [[f"says: {a}", f"truth: {b}"] for a, b in zip(said, truth, strict=True)]
    return dataset_figure(list(data[f"{split}_urls"][images]), lines, title)


show("train", data["train_image_idxs"][rows[:4]].tolist(), "Images it knows by heart")

# %% [markdown]
# And on images that it has never seen? It puts the words it knows together, and is often wrong: it
# learned fifty captions, not to look. For that it needs more of them: `python -m tfcap.train`, or
# notebook 4.

# %%
show("val", [0, 1, 2, 3], "Images it has not seen")

# %% [markdown]
# ## Questions
#
# 1. The course sums the loss over time but divides by N only. What changes in training if we divide by
#    the number of words instead? What if captions have very different lengths?
# 2. Our network says words. One could also let it say letters. What would be better, what worse?
# 3. In the plot of gradients, make the inputs ten times smaller. What changes, and why?

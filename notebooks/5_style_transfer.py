# %% [markdown]
# # 5. Style transfer
#
# The fourth question of CS231n's third assignment: paint a photograph in the manner of a painting
# (Gatys, Ecker and Bethge 2016, *Image style transfer using convolutional neural networks*). As in
# notebook 3 the network stays as it is and the image changes; new is what the image is changed for.
# It is to have
#
# 1. the **content** of the photograph: the same feature maps in a deep layer,
# 2. the **style** of the painting: feature maps that are correlated in the same way, wherever they are,
# 3. few sudden jumps from one pixel to the next.
#
# Each is a loss, and the image follows the gradient of their sum.

# %%
import sys

sys.path.insert(0, "..")  # the clone; not needed where the package is installed

from pathlib import Path

# first, as they turn on oneDNN, which TensorFlow reads when it is imported
from visualization import (
    SqueezeNet,
    content_loss,
    deprocess_image,
    extract_features,
    gram_matrix,
    load_image,
    preprocess_image,
    style_loss,
    style_transfer,
    tv_loss,
)
from visualization.images.strokes import draw_strokes
from visualization.style import feature_layers

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib_inline.backend_inline import set_matplotlib_formats

set_matplotlib_formats("jpeg")  # photographs as PNG would make this file large
model = SqueezeNet()
path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
photograph = load_image(path)  # (606, 512, 3)
painting = draw_strokes(512)


def show(pictures, width=3.2):
    """A row of pictures under their names."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(width * len(pictures), width * 1.25))
    for axis, (name, picture) in zip(np.atleast_1d(axes), pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set_title(name)
        axis.set_axis_off()
    figure.tight_layout()


show({"the photograph": photograph, "the painting": painting})

# %% [markdown]
# The painting is drawn by a few lines of code, so that this notebook needs no other file. Put a path
# of your own in its place: the course uses *The Scream*, *Composition VII* and *The Starry Night*.
#
# ## Features
#
# `extract_features` returns the feature maps of all layers but the last two. In the deeper ones a
# cell sees more of the image, and there are fewer of them.

# %%
content = preprocess_image(load_image(path, 192)[None])  # (1, 192, 192, 3)
style = preprocess_image(draw_strokes(192)[None])
features, style_features = extract_features(content, model), extract_features(style, model)
for number, (name, maps) in enumerate(zip(feature_layers(model), features, strict=True)):
    print(f"{number:2}  {name:6} {maps.shape}")

# %% [markdown]
# ## Content
#
# The content loss compares the feature maps $F$ of the image with those $P$ of the photograph, in one
# layer:
#
# $$L_c = w_c \sum_{i, j} (F_{ij} - P_{ij})^2$$

# %%
current, original = style_features[3], features[3]
by_hand = 0.05 * np.sum((current - original) ** 2)
print("the same as by hand:", np.allclose(content_loss(0.05, current, original), by_hand))
print("0 where nothing changed:", content_loss(0.05, original, original) == 0)

# %% [markdown]
# ## Style
#
# The Gram matrix tells which channels are active together. Summing over places forgets where they
# were: strokes and colours stay, objects go. With $F$ as a matrix, a row for each of $M$ places and a
# column for each of $C$ channels,
#
# $$G_{cd} = \frac{1}{M C} \sum_i F_{ic} F_{id}, \qquad
# L_s = \sum_\ell w_\ell \sum_{c, d} (G^\ell_{cd} - A^\ell_{cd})^2$$
#
# where $A$ is the painting's.

# %%
F = features[3].reshape(-1, features[3].shape[3])  # (places, channels)
print("the same as by hand:", np.allclose(gram_matrix(features[3]), F.T @ F / F.size))

moved = features[3][:, ::-1, ::-1]  # upside down
print("the same wherever things are:", np.allclose(gram_matrix(moved), gram_matrix(features[3])))

layers, weights = [0, 3, 5, 6], [30.0, 0.1, 1.5e-3, 3e-4]
targets = [gram_matrix(style_features[layer]) for layer in layers]
by_hand = sum(
    weight * np.sum((gram_matrix(features[layer]) - target) ** 2)
    for layer, weight, target in zip(layers, weights, targets, strict=True)
)
loss = style_loss(features, layers, targets, weights)
print("the style loss, the same as by hand:", np.allclose(loss, by_hand))

# %% [markdown]
# ## Total variation
#
# Noise is cheap for the other two losses. The third one makes neighbours alike:
#
# $$L_{tv} = w_{tv} \left( \sum_{i, j, c} (x_{i+1, j, c} - x_{i, j, c})^2
# + \sum_{i, j, c} (x_{i, j+1, c} - x_{i, j, c})^2 \right)$$

# %%
by_hand = sum(np.sum(np.diff(content, axis=axis) ** 2) for axis in (1, 2))
print("the same as by hand:", np.allclose(tv_loss(content, 0.02), 0.02 * by_hand))
noise = np.random.default_rng(0).normal(size=content.shape).astype(np.float32)
noisy = content + 0.1 * noise
print("noise costs more:", bool(tv_loss(noisy, 0.02) > tv_loss(content, 0.02)))

# %% [markdown]
# ## The gradient
#
# All three reach the pixels through one tape. Let us ask for the gradient of the style loss, and
# check it along its own direction: a small step must change the loss by the step times the gradient's
# length.

# %%


def loss_of(x):
    return style_loss(extract_features(x, model), layers, targets, weights)


with tf.GradientTape() as tape:
    x = tf.constant(content)
    tape.watch(x)
    loss = loss_of(x)
gradient = tape.gradient(loss, x)
length = tf.norm(gradient)
step = 0.3 * gradient / length
difference = (loss_of(x + step) - loss_of(x - step)) / 0.6
print("agrees within two per cent:", bool(abs(difference - length) < 0.02 * length))

# %% [markdown]
# ## Painting
#
# `style_transfer` is the course's function: Adam on the image for 200 iterations, the last twenty in
# shorter steps, clipped after each one. `on_frame` sees the image on the way.
#
# The course chose its weights for its own checkpoint of SqueezeNet. Those in this repository are its
# authors' from Caffe, whose feature maps are about ten times as large. The content loss grows with
# their square and the style loss with their fourth power, so we divide the course's weights by 100
# and 10,000.

# %%
STARRY_NIGHT = {
    "image_size": 192,
    "content_layer": 3,
    "content_weight": 6e-2 / 100,
    "style_layers": [0, 3, 5, 6],
    "style_weights": np.array([300_000, 1000, 15, 3]) / 10_000,
    "tv_weight": 2e-2,
}
frames = {}


def on_frame(done, image):
    frames[f"after {done}"] = deprocess_image(image[0], rescale=True)


painted = style_transfer(
    photograph, painting, style_size=192, **STARRY_NIGHT, on_frame=on_frame, show_every=50
)
del frames["after 1"]
show(frames, width=2.6)

# %% [markdown]
# ## Weights that fit any image
#
# The course's weights depend on the network and on the size of the image. `relative_weights=True`
# weighs each loss relative to what it is to match, so that one set does for all sizes and models; so
# does the command `python -m visualization.stylize photo.jpg painting.jpg`. `keep_colors` paints the
# brightness only and leaves the photograph its colours.

# %%
RELATIVE = STARRY_NIGHT | {
    "style_size": 192,
    "content_weight": 1.0,
    "style_weights": [0.75, 0.75, 0.75, 0.75],
    "tv_weight": 0.3,
    "learning_rate": 0.15,
    "clip": False,
    "relative_weights": True,
}
pictures = {}
for name, keep in {"relative weights": False, "and the photograph's colours": True}.items():
    image = style_transfer(photograph, painting, **RELATIVE, keep_colors=keep)
    pictures[name] = deprocess_image(image[0])
show({"the photograph": load_image(path, 192), **pictures})

# %% [markdown]
# ## How large a stroke is
#
# The network sees strokes in pixels: the same painting, made smaller, has finer ones. So `style_size`
# chooses them, while `image_size` chooses how large the result is.

# %%
strong = RELATIVE | {"style_weights": [2.5] * 4}
pictures = {}
for size in (96, 192, 384):
    image = style_transfer(photograph, painting, **strong | {"style_size": size})
    pictures[f"style_size={size}"] = deprocess_image(image[0])
show(pictures)

# %% [markdown]
# Broad strokes and fine ones come from two sizes. At half the size a stroke that the network knows
# covers twice as much of the picture; carried on from there at the whole size, with less weight on the
# painting, the broad strokes stay and fine ones go over them, while the photograph's edges come back.
# This is how the command paints.

# %%
half = style_transfer(
    photograph,
    painting,
    **RELATIVE | {"image_size": 128, "style_size": 128, "style_weights": [2.5] * 4},
)
twice = RELATIVE | {"image_size": 256, "style_size": 256, "num_iterations": 100}
whole = style_transfer(
    photograph,
    painting,
    **twice | {"style_weights": [0.25] * 4},
    init_image=deprocess_image(half[0]),
)
alone = style_transfer(photograph, painting, **twice)
show(
    {
        "half the size": deprocess_image(half[0]),
        "and from there": deprocess_image(whole[0]),
        "without it": deprocess_image(alone[0]),
    },
)

# %% [markdown]
# ## Feature inversion
#
# Without style, and from noise, the same loss looks for an image with the photograph's features: it
# shows what a layer still knows (Mahendran and Vedaldi 2015, *Understanding deep image
# representations by inverting them*). Colours go first, then exact places.

# %%
pictures = {}
for layer in ("fire2", "fire5", "fire9"):
    image = style_transfer(
        photograph,
        painting,
        **RELATIVE
        | {
            "style_weights": [0.0] * 4,
            "content_layer": layer,
            "tv_weight": 1.0,
            "learning_rate": 0.1,
        },
        init_random=True,
    )
    pictures[f"what {layer} knows"] = deprocess_image(image[0])
show(pictures)

# %% [markdown]
# ## Texture
#
# And without content the result is a texture: the painting's strokes, in no order (Gatys, Ecker and
# Bethge 2015, *Texture synthesis using convolutional neural networks*).

# %%
image = style_transfer(
    photograph,
    painting,
    **RELATIVE | {"content_weight": 0.0, "tv_weight": 1.0, "learning_rate": 0.1},
    init_random=True,
)
show({"the painting": painting, "a texture of it": deprocess_image(image[0])})

# %% [markdown]
# From here: `python -m visualization.stylize --help`, with `--gif` for the whole way as an animation.

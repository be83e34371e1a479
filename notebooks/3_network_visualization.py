# %% [markdown]
# # 3. What a network sees
#
# This notebook follows the network visualization notebook of CS231n's third assignment. A network that
# has learned to tell a thousand classes apart stays as it is; what we change is the *image*. The
# gradient of a score with respect to the pixels tells
#
# 1. which pixels matter for a class (saliency maps),
# 2. how to change an image so that the network sees another class (fooling images),
# 3. what image the network would like best for a class (class visualisation).
#
# The network is SqueezeNet 1.1, trained on ImageNet; at the end a second one, EfficientNet-Lite2, is
# put beside it. Their weights are in the repository; nothing is downloaded.

# %%
import sys
import time

sys.path.insert(0, "..")  # the clone; not needed where the package is installed

from pathlib import Path

# first, as they turn on oneDNN, which TensorFlow reads when it is imported
from visualization import (
    SqueezeNet,
    class_names,
    class_visualization_update_step,
    compute_saliency_maps,
    create_class_visualization,
    deprocess_image,
    image_gradients,
    load_image,
    load_imagenet_val,
    make_fooling_image,
    make_fooling_images,
    paint_class,
    predict_scores,
    preprocess_image,
)
from visualization.plotting import attribution_figure, class_figure, fooling_figure

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib_inline.backend_inline import set_matplotlib_formats

plt.rcParams["figure.figsize"] = 8, 4
set_matplotlib_formats("jpeg")  # photographs as PNG would make this file large
model = SqueezeNet()
names = [name.split(",")[0] for name in class_names()]
print(f"{model.count_params():,} weights, {len(names):,} classes")

# %% [markdown]
# ## Images
#
# The course uses some validation images of ImageNet. If its file `imagenet_val_25.npz` is not at hand
# (`$TFCAP_DATA` names the folder it lies in), we take the photograph that comes with matplotlib.
#
# A network's input is not pixels of 0 to 255, but what it was trained on: here, each channel less its
# mean over ImageNet, divided by its standard deviation. `preprocess_image` does that and
# `deprocess_image` undoes it.

# %%
try:
    images, y, _ = load_imagenet_val(num=5)
except FileNotFoundError:
    print("ImageNet's validation images are not at hand: taking matplotlib's photograph")
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    images, y = load_image(path, size=224)[None], np.array([457])

X = preprocess_image(images)  # (N, 224, 224, 3)
print("pixels", images.dtype, "from", images.min(), "to", images.max())
print(f"input  {X.dtype} from {X.min():.2f} to {X.max():.2f}")
print("the way back is exact:", bool((deprocess_image(X) == images).all()))

scores = predict_scores(model, X)  # (N, 1000)
probabilities = tf.nn.softmax(scores).numpy()
for n in range(len(X)):
    likely = scores[n].argsort()[::-1][:3]
    seen = [f"{names[k]} {probabilities[n, k]:.0%}" for k in likely]
    print(f"labelled {names[y[n]]}; sees", ", ".join(seen))

# %% [markdown]
# ## Saliency maps
#
# How much would the score of the right class change if this pixel changed a little? That is the
# gradient of the score with respect to the image. The map is its absolute value, and of the three
# channels the largest (Simonyan, Vedaldi and Zisserman 2014, arXiv:1312.6034, section 3):
#
# $$M_{ij} = \max_c \left| \frac{\partial s_y}{\partial X_{ijc}} \right|$$
#
# In TensorFlow these are a few lines. `compute_saliency_maps` does the same for a batch of any size, in
# bounded memory, compiled once.

# %%
with tf.GradientTape() as tape:
    inputs = tf.constant(X)
    tape.watch(inputs)
    right = tf.gather(model(inputs), y, batch_dims=1)  # (N,): each image's own class
by_hand = tf.reduce_max(tf.abs(tape.gradient(right, inputs)), axis=3).numpy()

maps = compute_saliency_maps(X, y, model)  # (N, 224, 224)
print("the same as by hand:", np.allclose(maps, by_hand, atol=1e-4 * by_hand.max()))

figure, axes = plt.subplots(len(X), 2, figsize=(7, 3.6 * len(X)), squeeze=False)
for n in range(len(X)):
    axes[n, 0].imshow(images[n])
    axes[n, 0].set_title(names[y[n]])
    axes[n, 1].imshow(maps[n], cmap="inferno", vmax=np.quantile(maps[n], 0.995))
for axis in axes.ravel():
    axis.set_axis_off()
figure.tight_layout()

# %% [markdown]
# A single gradient is noisy. Other methods ask the same question with more patience; notebook 4 tests
# which of them tell the truth.
#
# - **SmoothGrad** is the mean of the maps of noisy copies.
# - **Integrated gradients** add up the gradients on the way from a grey image to this one. Their sum is
#   the difference of the two scores, which is a check.
# - **Grad-CAM** looks at the channels of the last convolution instead of at pixels.

# %%
from visualization import grad_cam, integrated_gradients, smoothed

integrated = integrated_gradients(X[:1], y[:1], model)
methods = {
    "saliency": maps[0],
    "SmoothGrad": smoothed(compute_saliency_maps, samples=20)(X[:1], y[:1], model)[0],
    "integrated gradients": integrated.maps[0],
    "Grad-CAM": grad_cam(X[:1], y[:1], model)[0],
}
gap = abs(integrated.convergence_delta[0] / integrated.maps[0].sum())
print(
    "integrated gradients miss the difference of scores by less than a twentieth:", bool(gap < 0.05)
)
attribution_figure(images[0], methods, names[y[0]])

# %% [markdown]
# ## The course's question
#
# > A friend wants to change an image so that the network gives a class a higher score, and says:
# > instead of the gradient, we can take the saliency map in each step. May one?
#
# Let us try. From the same image we go towards class 6, "stingray", by steps of one length: along the
# gradient, along the saliency map (the same in all three channels), and in a random direction.

# %%
TARGET = 6
STEPS, LENGTH = 20, 1.0


def saliency_in_colour(image):
    return np.repeat(compute_saliency_maps(image, [TARGET], model)[..., None], 3, axis=3)


rng = np.random.default_rng(0)
random_direction = rng.standard_normal(X[:1].shape).astype("float32")
directions = {
    "gradient": lambda image: image_gradients(image, [TARGET], model)[0],
    "saliency map": saliency_in_colour,
    "random direction": lambda image: random_direction,
}
rises = {}
for name, direction in directions.items():
    image, trace = X[:1].copy(), []
    for _ in range(STEPS):
        trace.append(predict_scores(model, image)[0, TARGET])
        step = direction(image)
        image += LENGTH * step / np.linalg.norm(step)
    rises[name] = trace[-1] - trace[0]
    plt.plot(trace, label=name)
plt.xlabel("steps of length 1")
plt.ylabel("score of the target")
plt.title("Only the gradient knows in which direction to change a pixel")
plt.legend()
plt.show()
little = bool(abs(rises["saliency map"]) < 0.1 * rises["gradient"])
print("the map raises the score less than a tenth as much:", little)

# %% [markdown]
# No. The map tells *how much* a pixel matters; it has forgotten *in which direction*: the absolute
# value throws the sign away, and the maximum says nothing of the other two channels. All its numbers
# are positive, so a step along it makes the image brighter where the gradient may ask for darker.
#
# ## Fooling images
#
# The gradient does know. The course's method (after Szegedy et al. 2014, arXiv:1312.6199): as long as
# another class has the highest score,
#
# $$X \leftarrow X + \eta \, g / \|g\|_2, \qquad g = \partial s_{target} / \partial X$$

# %%
X_fooling = make_fooling_image(X[:1], TARGET, model)
fooled = predict_scores(model, X_fooling)[0]
print("before:", names[scores[0].argmax()], "- after:", names[fooled.argmax()])
fooling_figure(
    images[0],
    deprocess_image(X_fooling[0]),
    f"{names[scores[0].argmax()]} {probabilities[0].max():.0%}",
    f"{names[fooled.argmax()]} {tf.nn.softmax(fooled).numpy().max():.0%}",
)

# %% [markdown]
# It looks the same to us. The network does not see as we do: near an image that it is sure of, there is
# another one that it takes for something else, and the gradient leads there.
#
# There is a catch. What the network saw above were floating-point numbers, and some are outside the
# range of colours. Saved as a picture, they are clipped and rounded, and an image that fooled by a hair
# may not do so any more. `make_fooling_images` judges every step by the picture as it would be saved;
# it takes a batch, and each image stops by itself.

# %%
result = make_fooling_images(images, TARGET, model)
print("pictures are", result.images.dtype, "- all fool:", bool(result.success.all()))

# %% tags=["varies"]
again = predict_scores(model, preprocess_image(result.images)).argmax(axis=1)
for n in range(len(images)):
    print(
        f"{names[result.predicted_before[n]]} -> {names[again[n]]}: {result.iterations[n]} steps, "
        f"L2 {result.l2[n]:.0f}, largest change {result.linf[n]} of 255"
    )

# %% [markdown]
# ## Class visualisation
#
# Now we start from noise and ask what a class looks like to the network (Simonyan et al. 2014, section
# 2; Yosinski et al. 2015, arXiv:1506.06579):
#
# $$I^* = \arg\max_I \; s_y(I) - \lambda \|I\|_2^2$$
#
# Without any help the result is high-frequency noise. So the course shifts the image by a few random
# pixels before each step, blurs it now and then, and clips it to valid colours. `normalize` makes every
# step equally long, which is not the course's way but shows more.

# %%
CLASS = 76
noise = preprocess_image(255 * rng.random((1, 224, 224, 3)))
one_step = class_visualization_update_step(noise, model, CLASS, l2_reg=1e-3, learning_rate=25)
print("one step changes the noise:", bool(np.abs(one_step - noise).max() > 0))

frames = []
start = time.perf_counter()
course = create_class_visualization(
    CLASS, model, on_frame=lambda t, X: frames.append((t, deprocess_image(X[0])))
)
seconds = time.perf_counter() - start
shown = frames[:4]  # the last is below
class_figure(np.stack([frame for _, frame in shown]), [f"iteration {t}" for t, _ in shown])

# %% tags=["varies"]
print(f"{seconds:.1f} s for 100 iterations, the compiling included")

# %% [markdown]
# Three ways to the same end. The first is the course's, the second has steps of one length. The third,
# `paint_class`, does not change pixels but the frequencies of which the image is made, with Adam (Olah,
# Mordvintsev and Schubert 2017, *Feature visualization*): a change of a low frequency is a change of a
# large part of the picture at once. It is what `python -m visualization.class_viz` draws with.

# %%
drawn = {
    "the course's": course,
    "normalised steps": create_class_visualization(CLASS, model, normalize=True),
    "frequencies": paint_class(CLASS, model),
}
pictures = np.concatenate([deprocess_image(X) for X in drawn.values()])
shares = tf.nn.softmax(predict_scores(model, preprocess_image(pictures))).numpy()[:, CLASS]
print("the network is sure of the last two:", bool(shares[1:].min() > 0.99))
class_figure(pictures, list(drawn))

# %% [markdown]
# Favourites of the course: the tick, the Yorkshire terrier, the gorilla and the oboe. They are drawn in
# one batch.

# %%
CLASSES = [78, 187, 366, 683]
drawn = deprocess_image(paint_class(CLASSES, model))
class_figure(drawn, [names[label] for label in CLASSES])

# %% [markdown]
# ## Another network
#
# Everything above asked one network. Is what it looks at, what fools it and what it likes a matter of
# this network, or of images? The second network in the box is EfficientNet-Lite2 (Tan and Le 2019,
# arXiv:1905.11946): three years younger, with five times as many weights, right on 20 of the course's
# 25 images where SqueezeNet is on 13. Its images have 260 pixels and its input is (pixels - 127) / 128:
# `network_specification` knows that, and the functions take it as `preprocess` and `bounds`.
#
# Both look at the same photograph, and each explains its own score of the right class.

# %%
from visualization import EfficientNetLite2, build_ensemble, network_specification

lite2 = EfficientNetLite2()
networks = {
    "SqueezeNet": (model, network_specification("squeezenet")),
    "EfficientNet-Lite2": (lite2, network_specification("efficientnet-lite2")),
}


def seen(pictures):
    """What each network sees in uint8 pictures of any size: name -> probabilities (N, 1000)."""
    return {
        name: tf.nn.softmax(predict_scores(network, needs.to_input(pictures))).numpy()
        for name, (network, needs) in networks.items()
    }


figure, axes = plt.subplots(2, 3, figsize=(10, 7))
for row, (name, (network, needs)) in zip(axes, networks.items(), strict=True):
    inputs = needs.to_input(images[:1])  # resized
    share = seen(images[:1])[name][0, y[0]]
    row[0].imshow(images[0])
    row[0].set_title(f"{name}: {names[y[0]]} {share:.0%}")
    saliency = smoothed(compute_saliency_maps, samples=10)(inputs, y[:1], network)[0]
    row[1].imshow(saliency, cmap="inferno", vmax=np.quantile(saliency, 0.995))
    row[1].set_title("SmoothGrad")
    row[2].imshow(grad_cam(inputs, y[:1], network)[0], cmap="inferno")
    row[2].set_title("Grad-CAM")
for axis in axes.ravel():
    axis.set_axis_off()
figure.tight_layout()

# %% [markdown]
# Does the picture that fooled SqueezeNet fool the other network too? And can one picture fool both?
# `build_ensemble` makes one model of several: it takes a picture of the largest size among theirs, lets
# each network resize it, and adds their scores. One more score says that they do not agree; it is the
# highest until all of them see one class. The functions above take that model as any other.

# %%
both, both_needs = build_ensemble(list(networks.values()))
height, width = both_needs.size
larger = tf.image.resize(images[:1], (height, width), method="bicubic")
larger = tf.cast(tf.round(tf.clip_by_value(larger, 0, 255)), tf.uint8).numpy()
pictures = {
    "made for SqueezeNet": result.images[:1],
    "made for both": make_fooling_images(larger, TARGET, both).images,
}
for made, picture in pictures.items():
    for name, probability in seen(picture).items():
        fooled = "is fooled" if probability[0].argmax() == TARGET else "is not fooled"
        print(f"{made}: {name} {fooled}")

# %% [markdown]
# One photograph proves little. `python -m notebooks.transfer` counts over the course's 25 images, and
# these are its counts: of how many pictures each network says "stingray", and in how many it sees
# another class than in the photograph.

# %%
import json

counts = json.loads(Path("transfer.json").read_text())
print(f"{counts['images']} pictures; {'SqueezeNet':>29}{'EfficientNet-Lite2':>30}")
print(f"{'made for':30}{'stingray, another class':>24}{'stingray, another class':>30}")
for row in counts["rows"]:
    cells = [row[name] for name in ("squeezenet", "efficientnet-lite2")]
    shown = [f"{cell['stingray']:8}{cell['another_class_than_before']:15}" for cell in cells]
    print(f"{' + '.join(row['asked']):31}{shown[0]}{shown[1]:>30}")

# %% [markdown]
# The small change that means so much to one network means nothing to the other: it is tied to this
# network's weights. (Between networks of one architecture, and for larger changes, it is known to
# transfer more.)
#
# For drawing a class that is good news: a picture that two networks take for a tarantula cannot rest on
# the whims of one, and looks more like one.

# %%
drawn = deprocess_image(
    paint_class(CLASS, both, num_iterations=80, learning_rate=0.1, image_shape=(height, width, 3))
)
sure = [bool(probability[0].argmax() == CLASS) for probability in seen(drawn).values()]
print("both networks see the class:", all(sure))
class_figure(drawn, [f"{names[CLASS]}, drawn for both networks"])

# %% [markdown]
# ## Questions
#
# 1. The saliency map uses the raw score and not the probability. What would be different with the
#    probability, for an image of which the network is sure? (Try it: the gradient of a softmax.)
# 2. Fool the network with your own photograph, towards a class that you choose. Which classes need
#    fewer steps, and does that tell something about what the network thinks is alike?
# 3. Leave the jitter out of the class visualisation (`max_jitter=1`). What comes back?
# 4. A score of this network can be exactly zero, because a ReLU stands before the average. What is the
#    gradient then, and what should a fooling loop do? `make_fooling_image`'s docstring has our answer.

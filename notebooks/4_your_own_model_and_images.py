# %% [markdown]
# # 4. Your own model and your own images
#
# Nothing in the third notebook needed SqueezeNet or the course's images. Here we
#
# 1. look at a photograph: put in your own,
# 2. train a small network of our own, and ask where it looks, what fools it and what it has learned,
# 3. test which of the maps tell the truth,
# 4. make a captioner of a folder of images and a table of sentences.
#
# So that it runs anywhere, the images are drawn: coloured shapes, of which we know what they show.

# %%
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, "..")  # the clone; not needed where the packages are installed

# first, as they turn on oneDNN, which TensorFlow reads when it is imported
from visualization import (
    SqueezeNet,
    class_names,
    compare_with_random,
    compute_saliency_maps,
    grad_cam,
    integrated_gradients,
    load_image,
    make_fooling_images,
    paint_class,
    predict_scores,
    preprocess_image,
    smoothed,
)
from visualization.plotting import attribution_figure, class_figure, overlay

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats

plt.rcParams["figure.figsize"] = 8, 4
set_matplotlib_formats("jpeg")  # photographs as PNG would make this file large
keras.utils.set_random_seed(0)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Your photograph
#
# `load_image` takes a path, a URL or the bytes of a file, turns the picture as the camera was held, and
# cuts out the middle. Change the path to a photograph of yours. If it shows none of ImageNet's
# thousand classes, the network will say something anyway: it has no other choice.

# %%
photograph = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")

image = load_image(photograph, size=224)  # uint8 (224, 224, 3)
squeezenet = SqueezeNet()
X = preprocess_image(image)[None]
scores = predict_scores(squeezenet, X)[0]
seen = int(scores.argmax())
name = class_names()[seen].split(",")[0]
attribution_figure(image, {"Grad-CAM": grad_cam(X, seen, squeezenet)[0]}, f"sees: {name}")

# %% [markdown]
# ## A network of your own
#
# Eight kinds of shapes, each drawn with another colour, size, place and background. The network is the
# sort of thing one writes with Keras: it starts with a `Rescaling`, so its input is pixels of 0 to 255,
# and ends in a softmax. We write it into a file, because the commands take a model from a file too.

# %%
(folder / "mine.py").write_text('''
import keras

from tfcap.data.shapes import SHAPES


def network():
    layers = [keras.Input((96, 96, 3)), keras.layers.Rescaling(1 / 127.5, -1)]
    for filters in (16, 32, 64):
        layers.append(keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        layers += [keras.layers.BatchNormalization(), keras.layers.ReLU()]
    layers += [keras.layers.Conv2D(64, 3, padding="same", activation="relu")]
    layers += [keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(len(SHAPES), "softmax")]
    return keras.Sequential(layers)


def trained():
    """What the commands need: the model, its preprocessing, the pixels it takes, its classes."""
    model = network()
    model.load_weights("mine.weights.h5")
    return model, lambda pixels: pixels, (0, 255), SHAPES
''')
sys.path.insert(0, str(folder))
from mine import network

from tfcap.data.shapes import SHAPES, draw, held_out_pairs, random_scene


def pictures(count, seed):
    """Pictures of one shape each, uint8 (N, 96, 96, 3), with the scenes they show."""
    rng = np.random.default_rng(seed)
    scenes = []
    while len(scenes) < count:
        scene = random_scene(rng, held_out_pairs(0), show=False)
        if len(scene.shapes) == 1:
            scenes.append(scene)
    drawn = [np.asarray(draw(scene, rng).resize((96, 96))) for scene in scenes]
    return np.stack(drawn), scenes


def kinds(scenes):
    return np.array([SHAPES.index(scene.shapes[0].shape) for scene in scenes])


train, train_scenes = pictures(1600, seed=1)
val, val_scenes = pictures(200, seed=2)
model = network()
model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train.astype("float32"), kinds(train_scenes), batch_size=32, epochs=10, verbose=0)
_, accuracy = model.evaluate(val.astype("float32"), kinds(val_scenes), verbose=0)
print("right on nine of ten pictures it has not seen:", accuracy > 0.9)
model.save_weights(folder / "mine.weights.h5")

# %% [markdown]
# ## Where it looks
#
# The functions are the same, and take a batch. The scores are the softmax's inputs: a probability near
# 1 has hardly any gradient left.

# %%
few = val[:6].astype("float32")
found = predict_scores(model, few).argmax(axis=1)
maps = compute_saliency_maps(few, found, model)  # (6, 96, 96)
cams = grad_cam(few, found, model)
alone = compute_saliency_maps(few[:1], found[:1], model)
print("one alone and one of a batch agree:", np.allclose(alone[0], maps[0], rtol=1e-3, atol=1e-5))

figure, axes = plt.subplots(3, 6, figsize=(14, 7.6), layout="constrained")
for n, (top, middle, bottom) in enumerate(axes.T):
    top.imshow(val[n])
    top.set_title(f"{val_scenes[n].shapes[0]}\nsees: {SHAPES[found[n]]}", fontsize=10)
    middle.imshow(overlay(val[n], maps[n]))
    bottom.imshow(overlay(val[n], cams[n]))
axes[1, 0].set_title("saliency", loc="left", fontsize=10)
axes[2, 0].set_title("Grad-CAM", loc="left", fontsize=10)
for axis in axes.ravel():
    axis.set_axis_off()

# %% [markdown]
# Does it look at the shape, or has it found something else in our pictures that gives the answer away?
# Here we can tell, because we know where each shape is. How much of a map lies on the shape's box, and
# how much of the picture does the box take?

# %%


def box(scene):
    """The part of a 96x96 picture, drawn on 224x224, that the scene's shape takes."""
    (shape,) = scene.shapes
    (x, y), half = shape.centre, shape.diameter / 2
    inside = np.zeros((96, 96), bool)
    low, high = (np.array([y, x]) - half) * 96 / 224, (np.array([y, x]) + half) * 96 / 224
    inside[int(low[0]) : int(high[0]) + 1, int(low[1]) : int(high[1]) + 1] = True
    return inside


boxes = np.stack([box(scene) for scene in val_scenes[:50]])
batch = val[:50].astype("float32")
labels = kinds(val_scenes[:50])
sums = {"saliency": compute_saliency_maps(batch, labels, model)}
sums["Grad-CAM"] = grad_cam(batch, labels, model)
print(f"the boxes take {boxes.mean():.0%} of the pictures")
shares = {}
for method, values in sums.items():
    weight = values.sum(axis=(1, 2))
    seen_ones = weight > 0
    shares[method] = ((values * boxes).sum(axis=(1, 2))[seen_ones] / weight[seen_ones]).mean()
    print(f"{method} lies on them more than by chance:", bool(shares[method] > boxes.mean()))

# %% tags=["varies"]
for method, share in shares.items():
    print(f"{share:.0%} of {method} lies on the boxes")

# %% [markdown]
# ## What fools it, and what it has learned
#
# `preprocess` is how pixels become the model's input (here they are it) and `bounds` the pixel values
# of black and white.

# %%
how = {"preprocess": lambda pixels: pixels, "bounds": (0, 255)}
star = SHAPES.index("star")
result = make_fooling_images(val[:6], star, model, minimal=True, **how)
print("all are taken for a star:", bool(result.success.all()))

figure, axes = plt.subplots(2, 6, figsize=(14, 5.4), layout="constrained")
for n, (top, bottom) in enumerate(axes.T):
    top.imshow(val[n])
    top.set_title(SHAPES[result.predicted_before[n]])
    bottom.imshow(result.images[n])
    after = SHAPES[result.predicted_after[n]]
    already = " already" if result.already[n] else ""
    bottom.set_title(f"{after}{already}\nlargest change {result.linf[n]}", fontsize=10)
for axis in axes.ravel():
    axis.set_axis_off()

# %%
drawn = paint_class(range(len(SHAPES)), model, num_iterations=100, **how)  # (8, 96, 96, 3)
class_figure(drawn.round().astype("uint8"), SHAPES)

# %% [markdown]
# A small network that has seen only drawings is sure of patterns that have little of a heart or a star
# in them. It was never asked what a star *is*, only to tell it from seven others: a circle may be where
# there is no corner.
#
# ## From a command
#
# The same for a folder of pictures. The function in our file returns the model, its preprocessing, the
# bounds of its pixels and the names of its classes. Beside each picture lies a JSON with all figures.

# %% tags=["varies"]
(folder / "pictures").mkdir()
for n in range(3):
    matplotlib.image.imsave(folder / "pictures" / f"{n}.png", val[n])


def run(*command):
    """A command, started in our folder; it needs to find the packages and our file."""
    paths = os.pathsep.join([str(Path("..").resolve()), str(folder)])
    environment = {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr * (done.returncode != 0)


print(run("visualization.saliency", "pictures", "--model", "mine.py:trained", "--out", "maps"))
print(*sorted(path.name for path in (folder / "maps").iterdir()), sep="\n")

# %% [markdown]
# ## Which maps tell the truth?
#
# A map can be pretty and wrong. One test: blur the pixels away that a map calls important, a twentieth
# at a time. The sooner the class goes, the better the map (a small area under the curve). The other way
# round, put them back into a blurred picture: the sooner it comes, the better (a large area). A random
# map is what any method has to beat (Petsiuk et al. 2018, arXiv:1806.07421).

# %% tags=["varies"]
from visualization import cascading_randomization
from visualization.plotting import faithfulness_figure

methods = {
    "saliency": compute_saliency_maps,
    "SmoothGrad": smoothed(compute_saliency_maps),
    "integrated gradients": lambda *arguments: integrated_gradients(*arguments).maps,
    "Grad-CAM": grad_cam,
}
found = {name: method(X, seen, squeezenet) for name, method in methods.items()}
results = compare_with_random(X, seen, squeezenet, found)
for name, one in results.items():
    print(f"{name:21} deletion {one.deletion_auc:.2f}, insertion {one.insertion_auc:.2f}")

# %% [markdown]
# Another test: replace the weights of the network by noise, layer after layer from the last on. A map
# that stays the same does not show what the network has learned (Adebayo et al. 2018,
# arXiv:1810.03292). One photograph says little: for many, there is
# `python -m visualization.saliency FOLDER --evaluate`.

# %%
honest = {
    name: cascading_randomization(X, seen, squeezenet, methods[name])
    for name in ("saliency", "Grad-CAM")
}
faithfulness_figure(results, honest)

# %% [markdown]
# ## A captioner of your own data
#
# A folder of images and a CSV with the columns `image` and `caption` are enough. We draw 300 pictures
# and write two sentences about each.

# %%
from tfcap import CaptioningRNN, caption_dataset, decode_captions, load_coco_data, score_captions
from tfcap.metrics.baselines import distinct_share, shuffled_cider
from tfcap.metrics.results import references_by_image

photographs = folder / "photographs"
photographs.mkdir()
rng = np.random.default_rng(3)
with (photographs / "captions.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["image", "caption"])
    for n in range(300):
        scene = random_scene(rng, held_out_pairs(0), show=False)
        while len(scene.shapes) != 1:
            scene = random_scene(rng, held_out_pairs(0), show=False)
        draw(scene, rng).save(photographs / f"{n:03}.png")
        for sentence in scene.captions(rng, 2):
            table.writerow([f"{n:03}.png", sentence])

print(
    run("tfcap.datasets", "build", "photographs", "--out", "data", "--min-count", "1", "--quiet"),
    end="",
)

# %% [markdown]
# `build` has made the course's layout: captions as ids, a vocabulary, and SqueezeNet's features of each
# image. `python -m tfcap.datasets inspect data` tells what is in it, and
# `python -m tfcap.train --data data --out captioner` trains, with all that one wants for hours of it:
# progress, validation, the best weights, `--resume`. Here, less than a minute of `fit` will do.

# %%
data = load_coco_data(folder / "data")
features = np.asarray(data["train_features"][:])
captioner = CaptioningRNN(
    data["word_to_idx"],
    input_dim=512,
    wordvec_dim=64,
    hidden_dim=256,
    dropout=0.3,
    feature_mean=features.mean(0),
    feature_std=features.std(0) + 1e-3,
    encoder=data["encoder"],
)
captioner.compile(keras.optimizers.Adam(3e-3))
losses = []
for epoch in range(18):
    batches = caption_dataset(data, "train", batch_size=64, epoch=epoch)
    losses += captioner.fit(batches, verbose=0).history["loss"]
plt.plot(losses)
plt.xlabel("epoch")
plt.ylabel("loss")
plt.title("Training loss history")
plt.show()

# %% [markdown]
# Is it any good? CIDEr compares the sentences with those that people wrote, here on pictures it has
# not seen. The check beside it: give every picture the sentence of another. If the score stays, the
# captioner says what is usual and does not look.

# %%
truth = references_by_image(data, "val")
words = captioner.beam_search(data["val_features"][:], beam_size=3)[0][:, 0]
said = dict(enumerate(decode_captions(words, captioner.idx_to_word)))
said = {image: said[image] for image in truth}
score, shuffled = score_captions(said, truth)["CIDEr"], shuffled_cider(said, truth)
print("with the pictures shuffled, less than half is left:", shuffled < score / 2)
print("more than a third of its sentences are distinct:", distinct_share(said) > 1 / 3)

# %% tags=["varies"]
print(f"CIDEr {score:.2f}, with the pictures shuffled {shuffled:.2f}")
for image in list(truth)[:4]:
    print(f"says: {said[image]:45} truth: {truth[image][0]}")

# %% [markdown]
# ## Why this word?
#
# The gradient of a word's log-probability goes through the decoder and the encoder to the photograph:
# saliency again, for a sentence. `word_maps` shows, for each word, what part of the picture it responds
# to; the figure hides that part and tells what is left of the word's probability. Where nothing is
# lost, the word follows from those before it, or from the rest of the picture.

# %% tags=["varies"]
from tfcap.data.vocabulary import END
from tfcap.explain import falls_when_hidden, regions, word_maps
from tfcap.plotting import explanation_figure

row = next(iter(truth))
picture = load_image(data["val_urls"][row], size=224)
ids = words[row][: np.flatnonzero(words[row] == END)[0]]
word_parts = word_maps(captioner, picture, ids)  # (T, 224, 224)
corners = regions(word_parts)
falls = falls_when_hidden(captioner, picture, ids, word_parts)
spoken = [captioner.idx_to_word[i] for i in ids]
explanation_figure(picture, spoken, word_parts, corners, falls)

# %% [markdown]
# At last we keep the captioner as a folder that the commands take:
# `python -m tfcap.caption photo.jpg --model captioner --explain`.

# %%
captioner.save_pretrained(folder / "captioner")
again = CaptioningRNN.from_pretrained(folder / "captioner")
same = (again.sample(data["val_features"][:5]) == captioner.sample(data["val_features"][:5])).all()
print("it says the same again:", bool(same))

# %% tags=["varies"]
print(run("tfcap.caption", "pictures/0.png", "--model", "captioner", "--out", "said"))

# %% [markdown]
# ## Questions
#
# 1. Train the small network on pictures in which every star is red. Does its accuracy tell you that
#    something is wrong? Do its maps?
# 2. Fool it with a smaller `learning_rate`. How small can the largest change of a pixel become?
# 3. Which words of the captioner respond to the shape, and which to nothing in the picture? Should "a"?

"""Style transfer, 200 iterations at 192 pixels: compiled here, the course's eager loop, PyTorch."""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np

from visualization import (
    SqueezeNet,
    content_loss,
    gram_matrix,
    load_image,
    preprocess_image,
    style_loss,
    style_transfer,
    tv_loss,
)
from visualization.backend import keras, tf
from visualization.images.strokes import draw_strokes

from .timing import INSTALL, Case

SIZE, ITERATIONS, SLOW_FROM = 192, 200, 180
RATE, SLOW_RATE, CLIP = 3.0, 0.1, 1.5
CONTENT, STYLE = 3, [0, 3, 5, 6]  # in what `extract_features` returns
CONTENT_WEIGHT, STYLE_WEIGHTS, TV_WEIGHT = 6e-4, [30.0, 0.1, 1.5e-3, 3e-4], 2e-2
PYTORCH = ("PyTorch, NCHW", "PyTorch, channels last")


def cases() -> Iterator[Case]:
    """The course's settings for The Starry Night, with a painting drawn by code."""
    photograph = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    image, painting = load_image(photograph, SIZE), draw_strokes(SIZE)
    X, style = preprocess_image(image)[None], preprocess_image(painting)[None]
    model = SqueezeNet()
    contenders: dict[str, Callable[[], object]] = {
        "style_transfer": lambda: style_transfer(
            image,
            painting,
            SIZE,
            SIZE,
            CONTENT,
            CONTENT_WEIGHT,
            STYLE,
            STYLE_WEIGHTS,
            TV_WEIGHT,
            model=model,
            num_iterations=ITERATIONS,
        ),
        "the course's loop, eager TensorFlow": lambda: eager(X, style, model),
    }
    missing = {}
    if importlib.util.find_spec("torch"):
        contenders |= pytorch(X, style)
    else:
        missing["torch"] = INSTALL
    yield Case(
        f"style transfer, an iteration at {SIZE} pixels",
        contenders,
        at_least={"the course's loop, eager TensorFlow": 3, **dict.fromkeys(PYTORCH, 1)},
        per_call=ITERATIONS,
        missing=missing,
    )


def eager(X: np.ndarray, style: np.ndarray, model: keras.Model) -> np.ndarray:
    """The notebook's cells: features layer by layer, a tape and Keras's Adam each step."""

    def features(x: tf.Tensor) -> list[tf.Tensor]:
        found = []
        for layer in model.layers[1 : 2 + max(CONTENT, *STYLE)]:
            x = layer(x)
            found.append(x)
        return found

    content_target = features(tf.constant(X))[CONTENT]
    of_style = features(tf.constant(style))
    style_targets = [gram_matrix(of_style[layer]) for layer in STYLE]
    image, optimizer = tf.Variable(X), keras.optimizers.Adam(RATE)
    for step in range(ITERATIONS):
        if step == SLOW_FROM:
            optimizer.learning_rate = SLOW_RATE
        with tf.GradientTape() as tape:
            found = features(image)
            loss = content_loss(CONTENT_WEIGHT, found[CONTENT], content_target)
            loss += style_loss(found, STYLE, style_targets, STYLE_WEIGHTS)
            loss += tv_loss(image, TV_WEIGHT)
        optimizer.apply_gradients([(tape.gradient(loss, image), image)])
        image.assign(tf.clip_by_value(image, -CLIP, CLIP))
    return image.numpy()


def pytorch(X: np.ndarray, style: np.ndarray) -> dict[str, Callable[[], object]]:
    import torch

    from .pytorch import layouts

    first = 1  # the place of our layer 0: there the convolution and its ReLU are two modules

    def run(model: torch.nn.Sequential, layout: torch.memory_format) -> np.ndarray:
        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous(memory_format=layout)

        def features(x: torch.Tensor) -> dict[int, torch.Tensor]:
            found = {}
            for place, layer in enumerate(model[: first + max(CONTENT, *STYLE) + 1]):
                x = layer(x)
                found[place - first] = x
            return found

        def gram(maps: torch.Tensor) -> torch.Tensor:
            F = maps.flatten(2)[0]  # (c, h w)
            return F @ F.T / F.numel()

        content_target = features(tensor(X))[CONTENT]
        of_style = features(tensor(style))
        style_targets = [gram(of_style[layer]) for layer in STYLE]
        image = tensor(X).clone(memory_format=torch.preserve_format).requires_grad_(True)
        optimizer = torch.optim.Adam([image], RATE)
        for step in range(ITERATIONS):
            if step == SLOW_FROM:
                optimizer.param_groups[0]["lr"] = SLOW_RATE
            found = features(image)
            loss = CONTENT_WEIGHT * (found[CONTENT] - content_target).square().sum()
            for layer, target, weight in zip(STYLE, style_targets, STYLE_WEIGHTS, strict=True):
                loss = loss + weight * (gram(found[layer]) - target).square().sum()
            down = image[:, :, 1:] - image[:, :, :-1]
            across = image[:, :, :, 1:] - image[:, :, :, :-1]
            loss = loss + TV_WEIGHT * (down.square().sum() + across.square().sum())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                image.clamp_(-CLIP, CLIP)
        return image.detach().numpy()

    return {name: functools.partial(run, *peer) for name, peer in layouts("squeezenet").items()}

"""Fooling one image: compiled here, eager TensorFlow, PyTorch. And a batch within a budget: Foolbox."""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np

from visualization import (
    SqueezeNet,
    load_image,
    make_fooling_image,
    preprocess_image,
    projected_gradient_ascent,
)
from visualization.backend import keras, tf

from . import visualization
from .timing import INSTALL, Case

TARGET = 6
ITERATIONS = 20
RATE = 1e-3  # too small to fool, so that every contender takes all its steps
BUDGETS = {"l2": 10.0, "linf": 0.5}  # levels, too small to fool as well
STEPS = 40
PYTORCH = ("PyTorch, NCHW", "PyTorch, channels last")


def cases() -> Iterator[Case]:
    """The course's loop on the photograph that ships with matplotlib."""
    photograph = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    image = preprocess_image(load_image(photograph, 224))[None]
    model = SqueezeNet()
    contenders: dict[str, Callable[[], object]] = {
        "make_fooling_image": lambda: make_fooling_image(
            image, TARGET, model, learning_rate=RATE, max_iterations=ITERATIONS
        ),
        "eager TensorFlow": lambda: eager(image, model),
    }
    missing = {}
    if importlib.util.find_spec("torch"):
        contenders |= pytorch(image)
    else:
        missing["torch"] = INSTALL
    yield Case(
        "fool: one iteration, one image",
        contenders,
        at_least={"eager TensorFlow": 5, **dict.fromkeys(PYTORCH, 1)},
        per_call=ITERATIONS,
        missing=missing,
    )
    images = visualization.shifted(visualization.photograph())
    for norm, epsilon in BUDGETS.items():
        yield within_a_budget(images, model, norm, epsilon)


def within_a_budget(images: np.ndarray, model: keras.Model, norm: str, epsilon: float) -> Case:
    """Projected gradient ascent of a batch."""
    contenders: dict[str, Callable[[], object]] = {
        "projected_gradient_ascent": lambda: projected_gradient_ascent(
            images, TARGET, model, norm=norm, epsilon=epsilon, steps=STEPS
        )
    }
    attack = f"{norm.capitalize()}PGD"
    missing = {}
    if importlib.util.find_spec("foolbox"):
        peer = visualization.in_foolbox(images, attack, STEPS, epsilon)
        contenders[f"Foolbox {attack}"] = peer
    else:
        missing["foolbox"] = INSTALL
    return Case(
        f"PGD, {norm}: a step of one of a batch of {len(images)}",
        contenders,
        {name: 1.6 for name in contenders if name.startswith("Foolbox")},
        per_call=STEPS * len(images),
        missing=missing,
    )


def eager(image: np.ndarray, model: keras.Model) -> np.ndarray:
    x = tf.constant(image)
    for _ in range(ITERATIONS):
        with tf.GradientTape() as tape:
            tape.watch(x)
            scores = model(x)
            score = scores[0, TARGET]
        if tf.argmax(scores[0]) == TARGET:
            break
        gradient = tape.gradient(score, x)
        x += RATE * gradient / tf.norm(gradient)
    return x.numpy()


def pytorch(image: np.ndarray) -> dict[str, Callable[[], object]]:
    import torch

    from .pytorch import layouts

    def run(model: torch.nn.Module, layout: torch.memory_format) -> np.ndarray:
        x = torch.from_numpy(image).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        for _ in range(ITERATIONS):
            x.requires_grad_(True)
            scores = model(x)
            if scores[0].argmax() == TARGET:
                break
            (gradient,) = torch.autograd.grad(scores[0, TARGET], x)
            x = (x + RATE * gradient / gradient.norm()).detach()
        return x.detach().numpy()

    return {name: functools.partial(run, *peer) for name, peer in layouts("squeezenet").items()}

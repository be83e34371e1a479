"""Several networks that look at one picture, as one model: what fools or draws for all of them at once.

Liu, Chen, Liu, Song (2017), "Delving into transferable adversarial examples and black-box attacks",
arXiv:1611.02770, section 5, fool an ensemble so that the pictures fool networks that were not asked.
"""

import math
from collections.abc import Sequence

from PIL import Image

from visualization.backend import keras, tf
from visualization.gradients import logits
from visualization.images.channel_statistics import SQUEEZENET_MEAN, SQUEEZENET_STD, standardize
from visualization.images.transforms import resample, resizing
from visualization.networks.specification import NetworkSpecification

__all__ = ["build_ensemble"]


def build_ensemble(
    members: Sequence[tuple[keras.Model, NetworkSpecification]],
) -> tuple[keras.Model, NetworkSpecification]:
    """Makes one model of several networks, for `make_fooling_images`, `paint_class` and the like.

    It takes a picture of the largest size among its members' and in SqueezeNet's preprocessing, the
    default of those functions. Each member gets the picture resized (bicubically, as a command resizes
    a file, but not rounded) and in its own preprocessing. The score of a class is the sum of the
    members' logits. One more score follows, that of being undecided: it is the highest unless the
    product of the members' probabilities of some class is above one half. So the class that has the
    highest score is the first guess of every member, at more than one half.

    Args:
        members: two networks or more, each with what it needs beside its weights. They tell the same K
            classes apart, and their sizes differ by a factor.

    Returns:
        The model, floating point (N, H, W, 3) -> scores (N, K + 1), and what it needs beside its
        weights.

    Raises:
        ValueError: there is one member only, or they differ in their classes or the shape of their
            images.

    Example:
        >>> import numpy as np
        >>> average = lambda size: keras.Sequential(
        ...     [keras.Input((size, size, 3)), keras.layers.GlobalAveragePooling2D()]
        ... )
        >>> rest = lambda pixels: pixels / 255, (0, 255), ["red", "green", "blue"]
        >>> needs = lambda size: NetworkSpecification((size, size), *rest)
        >>> model, specification = build_ensemble([(average(size), needs(size)) for size in (4, 6)])
        >>> specification.size, list(specification.names)
        ((6, 6), ['red', 'green', 'blue', 'undecided'])
        >>> white = specification.to_input(np.full((1, 6, 6, 3), 255, np.uint8))
        >>> model(white).numpy().round(2).tolist()  # two logits of 1, and log(9 e^2 / 2)
        [[2.0, 2.0, 2.0, 3.5]]
    """
    specifications = [specification for _, specification in members]
    if len(members) < 2:
        raise ValueError(f"an ensemble of {len(members)} networks was asked for: give two or more")
    first, *others = specifications
    if any(list(other.names) != list(first.names) for other in others):
        raise ValueError(
            f"the networks have {', '.join(str(len(one.names)) for one in specifications)} classes, or "
            "other names for them: give networks that tell the same classes apart"
        )
    size = max(specification.size for specification in specifications)
    if any(one.size[0] * size[1] != one.size[1] * size[0] for one in specifications):
        raise ValueError(
            f"the networks take images of {', '.join(str(one.size) for one in specifications)}, "
            "(height, width): give networks whose images have one shape, as squares"
        )
    names = [*first.names, "undecided"]
    return _Ensemble(members, size, names), NetworkSpecification(size, standardize, (0, 255), names)


class _Ensemble(keras.Model):
    takes_squeezenets_input = True

    def __init__(
        self,
        members: Sequence[tuple[keras.Model, NetworkSpecification]],
        size: tuple[int, int],
        names: Sequence[str],
    ) -> None:
        super().__init__(name="ensemble", autocast=False)  # float64 stays so
        self.class_names = names
        self.members = [model for model, _ in members]
        self.views = [_View(specification, size) for _, specification in members]

    def call(self, X: tf.Tensor, training: bool = False) -> tf.Tensor:
        if tf.executing_eagerly():  # `logits` looks into a graph
            return self._scores.get_concrete_function(X)(X)
        return self._scores(X)

    @tf.function(reduce_retracing=True, autograph=False)
    def _scores(self, X: tf.Tensor) -> tf.Tensor:
        pixels = (X * SQUEEZENET_STD + SQUEEZENET_MEAN) * 255
        scores = [
            logits(member, view.of(pixels))
            for member, view in zip(self.members, self.views, strict=True)
        ]
        highest = [tf.reduce_logsumexp(one, axis=1, keepdims=True) for one in scores]  # (N, 1)
        return tf.concat([tf.add_n(scores), tf.add_n(highest) - math.log(2)], axis=1)


class _View:
    """How a network sees the ensemble's picture: (N, H, W, 3) pixels -> its input, differentiable."""

    def __init__(self, specification: NetworkSpecification, size: tuple[int, int]) -> None:
        self.scaling = specification.scaling()
        sides = zip(size, specification.size, strict=True)
        self.rows, self.columns = (
            resizing(old, new, Image.Resampling.BICUBIC) for old, new in sides
        )

    def of(self, pixels: tf.Tensor) -> tf.Tensor:
        black, white = self.scaling.lower, self.scaling.upper
        if len(self.rows) != self.rows.shape[1]:
            pixels = resample(pixels, self.rows, self.columns)
            pixels = tf.clip_by_value(pixels, 0, 255)  # bicubic resizing can leave the range
        ordered = tf.gather(pixels, self.scaling.channel_order, axis=3)
        return black + ordered / 255 * (white - black)

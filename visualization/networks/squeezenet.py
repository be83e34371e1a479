"""SqueezeNet 1.1, in the style of `keras.applications`.

Iandola et al. (2016), "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size", arXiv:1602.07360; version 1.1 pools earlier and needs 2.4 times less computation.
"""

import os
from typing import Any

from visualization.backend import keras, tf
from visualization.weight_files.loading import load_weights

__all__ = ["Fire", "SqueezeNet"]


def SqueezeNet(
    weights: str | os.PathLike[str] | None = "imagenet",
    include_top: bool = True,
    *,
    convention: str | None = None,
) -> keras.Model:
    """Builds SqueezeNet 1.1 as a Functional model named ``squeezenet``.

    Its layers are ``conv1``, ``pool1``, ``fire2``, ``fire3``, ``pool3``, ``fire4``, ``fire5``,
    ``pool5``, ``fire6`` to ``fire9``, ``conv10``, ``scores``.

    Args:
        weights: "imagenet" (the bundled weights, verified and read offline), None (random
            initialisation), or a checkpoint of SqueezeNet 1.1 in any form that
            `visualization.load_weights` takes.
        include_top: if False, the model ends after ``fire9`` and takes images of any size.
        convention: the input that the weights in the file are for, "course" or "caffe"; by default as
            `visualization.load_weights` finds out.

    Returns:
        A model whose input is RGB float32 (N, 224, 224, 3), preprocessed by
        `visualization.preprocess_image`, and whose output is the logits (N, 1000) of the ImageNet
        classes: no softmax, and never negative, because a ReLU comes before the average. Without
        top, input (N, H, W, 3) and output (N, H', W', 512), with H' = W' = 13 for 224 pixels.

    Raises:
        OSError, ValueError, ImportError: as `visualization.load_weights` does.

    Example:
        >>> model = SqueezeNet()
        >>> model(tf.zeros((1, 224, 224, 3))).shape
        TensorShape([1, 1000])
    """
    size = 224 if include_top else None
    inputs = keras.Input((size, size, 3), dtype="float32", name="image")
    x = _convolution(64, 3, strides=2, name="conv1")(inputs)  # (N, 111, 111, 64)
    x = _pool("pool1")(x)  # (N, 55, 55, 64)
    x = Fire(16, 64, name="fire2")(x)
    x = Fire(16, 64, name="fire3")(x)
    x = _pool("pool3")(x)  # (N, 27, 27, 128)
    x = Fire(32, 128, name="fire4")(x)
    x = Fire(32, 128, name="fire5")(x)
    x = _pool("pool5")(x)  # (N, 13, 13, 256)
    x = Fire(48, 192, name="fire6")(x)
    x = Fire(48, 192, name="fire7")(x)
    x = Fire(64, 256, name="fire8")(x)
    x = Fire(64, 256, name="fire9")(x)  # (N, 13, 13, 512)
    if include_top:
        x = _convolution(1000, 1, name="conv10")(x)
        x = keras.layers.GlobalAveragePooling2D(
            data_format="channels_last", name="scores", dtype="float32"
        )(x)  # (N, 1000)
    model = keras.Model(inputs, x, name="squeezenet")

    if weights is not None:
        load_weights(model, weights, convention=convention)
    return model


@keras.saving.register_keras_serializable(package="visualization")
class Fire(keras.layers.Layer):
    """Fire module (Iandola et al. 2016, section 3.1).

    A 1x1 convolution squeezes the channels; a 1x1 and a 3x3 convolution in parallel expand them. Each
    is followed by a ReLU.

    Args:
        squeeze: channels of the squeezing convolution, S.
        expand: channels of each expanding convolution, E.

    Call arguments:
        inputs: (N, H, W, C), floating point.

    Returns:
        (N, H, W, 2E): the 1x1 convolution's channels, then the 3x3 convolution's.

    Example:
        >>> Fire(squeeze=2, expand=4)(tf.zeros((1, 5, 5, 3))).shape
        TensorShape([1, 5, 5, 8])
    """

    def __init__(self, squeeze: int, expand: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.squeeze = _convolution(squeeze, 1, name="squeeze", dtype=dtype)
        self.expand1x1 = _convolution(expand, 1, name="expand1x1", dtype=dtype)
        self.expand3x3 = _convolution(expand, 3, padding="same", name="expand3x3", dtype=dtype)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.squeeze.build(input_shape)
        squeezed = (*input_shape[:-1], self.squeeze.filters)
        self.expand1x1.build(squeezed)
        self.expand3x3.build(squeezed)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        squeezed = self.squeeze(inputs)  # (N, H, W, S)
        return _concatenate(self.expand1x1(squeezed), self.expand3x3(squeezed))

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """As `call` returns it. Without this Keras would trace `call` for every module of a model."""
        return *input_shape[:-1], 2 * self.expand1x1.filters

    def get_config(self) -> dict[str, Any]:
        sizes = {"squeeze": self.squeeze.filters, "expand": self.expand1x1.filters}
        return super().get_config() | sizes


@tf.custom_gradient
def _concatenate(left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """(N, H, W, E) twice -> (N, H, W, 2E); TensorFlow's own gradient takes twice as long to slice."""
    return tf.concat([left, right], axis=-1), lambda upstream: tf.split(upstream, 2, axis=-1)


def _convolution(filters: int, size: int, **kwargs: Any) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters, size, activation="relu", data_format="channels_last", **kwargs
    )


def _pool(name: str) -> keras.layers.Layer:
    return keras.layers.MaxPooling2D(3, strides=2, data_format="channels_last", name=name)

"""EfficientNet-Lite2, in the style of `keras.applications`.

Tan and Le (2019), "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
arXiv:1905.11946. The Lite variants, made for phones, have ReLU6 and no squeeze-and-excitation
(tensorflow/tpu, ``efficientnet/lite``). Batch normalisation is folded into the convolutions.
"""

import os
from typing import Any

from visualization.backend import keras, tf
from visualization.weight_files.loading import load_weights

__all__ = ["EfficientNetLite2", "InvertedResidual"]

# Lite0's stages, 1.1 times as wide and 1.2 times as deep.
_STAGES = (
    # kernel, stride of the first block, expansion, channels, blocks
    (3, 1, 1, 16, 1),  # (N, 130, 130, 16)
    (3, 2, 6, 24, 3),  # (N, 65, 65, 24)
    (5, 2, 6, 48, 3),  # (N, 33, 33, 48)
    (3, 2, 6, 88, 4),  # (N, 17, 17, 88)
    (5, 1, 6, 120, 4),  # (N, 17, 17, 120)
    (5, 2, 6, 208, 5),  # (N, 9, 9, 208)
    (3, 1, 6, 352, 1),  # (N, 9, 9, 352)
)


def EfficientNetLite2(
    weights: str | os.PathLike[str] | None = "imagenet", include_top: bool = True
) -> keras.Model:
    """Builds EfficientNet-Lite2 as a Functional model named ``efficientnet_lite2``.

    Its layers are ``stem``, ``block1`` to ``block21``, ``head``, ``features``, ``dropout``,
    ``classifier``, ``scores``.

    Args:
        weights: "imagenet" (the bundled weights, verified and read offline), None (random
            initialisation), or a file of this network's weights, as `visualization.load_weights` takes
            them.
        include_top: if False, the model ends after ``head`` and takes images of any size.

    Returns:
        A model whose input is RGB float32 (N, 260, 260, 3), preprocessed by
        `visualization.network_specification("efficientnet-lite2").to_input`, -1 to 1, and whose output
        is the logits (N, 1000) of the ImageNet classes: no softmax. Without top, input (N, H, W, 3)
        and output (N, H', W', 1280), never negative, with H' = W' = 9 for 260 pixels.

    Raises:
        OSError, ValueError, ImportError: as `visualization.load_weights` does.

    Example:
        >>> model = EfficientNetLite2()
        >>> model(tf.zeros((1, 260, 260, 3))).shape
        TensorShape([1, 1000])
    """
    size = 260 if include_top else None
    inputs = keras.Input((size, size, 3), dtype="float32", name="image")
    x = _convolution(32, 3, strides=2, activation="relu6", name="stem")(inputs)  # (N, 130, 130, 32)
    number = 0
    for kernel, stride, expansion, channels, blocks in _STAGES:
        for strides in (stride, *[1] * (blocks - 1)):
            number += 1
            x = InvertedResidual(channels, kernel, strides, expansion, name=f"block{number}")(x)
    x = _convolution(1280, 1, activation="relu6", name="head")(x)  # (N, 9, 9, 1280)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="features")(x)
        x = keras.layers.Dropout(0.3, name="dropout")(x)  # in training only
        x = keras.layers.Dense(1000, name="classifier")(x)
        x = keras.layers.Activation("linear", name="scores", dtype="float32")(x)  # (N, 1000)
    model = keras.Model(inputs, x, name="efficientnet_lite2")

    if weights is not None:
        load_weights(model, weights)
    return model


@keras.saving.register_keras_serializable(package="visualization")
class InvertedResidual(keras.layers.Layer):
    """Inverted residual block (Sandler et al. 2018, MobileNetV2, arXiv:1801.04381, section 3.3).

    A 1x1 convolution expands the channels, a depthwise one looks around in each of them, and another
    1x1 projects them to few again. The first two are followed by ReLU6, the last by nothing. The input
    is added where it has the output's shape.

    Args:
        channels: of the output, O.
        kernel: width and height of the depthwise convolution.
        strides: of the depthwise convolution.
        expansion: channels inside, as a multiple of the input's; 1 leaves the expanding one out.

    Call arguments:
        inputs: (N, H, W, C), floating point.

    Returns:
        (N, ceil(H / strides), ceil(W / strides), O).

    Example:
        >>> InvertedResidual(channels=4, kernel=3, strides=2, expansion=6)(tf.zeros((1, 5, 5, 2))).shape
        TensorShape([1, 3, 3, 4])
    """

    def __init__(
        self, channels: int, kernel: int, strides: int, expansion: int, **keywords: Any
    ) -> None:
        super().__init__(**keywords)
        self.channels, self.kernel, self.strides = channels, kernel, strides
        self.expansion = expansion

    def build(self, input_shape: tuple[Any, ...]) -> None:
        dtype = self.dtype_policy
        *cells, channels = input_shape
        inside = (*cells, self.expansion * channels)
        if self.expansion > 1:
            self.expand = _convolution(
                inside[-1], 1, activation="relu6", name="expand", dtype=dtype
            )
            self.expand.build(input_shape)
        self.depthwise = keras.layers.DepthwiseConv2D(
            self.kernel,
            strides=self.strides,
            padding="same",
            activation="relu6",
            data_format="channels_last",
            name="depthwise",
            dtype=dtype,
        )
        self.depthwise.build(inside)
        self.project = _convolution(self.channels, 1, name="project", dtype=dtype)
        self.project.build(inside)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = self.expand(inputs) if self.expansion > 1 else inputs  # (N, H, W, expansion C)
        x = self.project(self.depthwise(x))
        return x + inputs if self.strides == 1 and inputs.shape[-1] == self.channels else x

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """As `call` returns it. Without this Keras would trace `call` for every block of a model."""
        return self.project.compute_output_shape(self.depthwise.compute_output_shape(input_shape))

    def get_config(self) -> dict[str, Any]:
        sizes = {
            "channels": self.channels,
            "kernel": self.kernel,
            "strides": self.strides,
            "expansion": self.expansion,
        }
        return super().get_config() | sizes


def _convolution(filters: int, size: int, **keywords: Any) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters, size, padding="same", data_format="channels_last", **keywords
    )

"""Style transfer: one picture's objects painted in the manner of another.

Gatys, Ecker, Bethge (2016), "Image style transfer using convolutional neural networks", CVPR, with the
names and settings of CS231n. The same loss without style inverts features (Mahendran, Vedaldi 2015,
"Understanding deep image representations by inverting them", arXiv:1412.0035), and without content it
makes textures (Gatys, Ecker, Bethge 2015, arXiv:1505.07376).

Shapes: an image is (1, H, W, 3), a layer's feature maps (1, h, w, c).
"""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from visualization.adam import adam_moments
from visualization.backend import keras, tf
from visualization.class_visualization import draw_in_batches
from visualization.compilation import compiled
from visualization.images.channel_statistics import SQUEEZENET_MEAN, SQUEEZENET_STD
from visualization.images.pixel_scaling import PixelScaling
from visualization.images.reading import load_image
from visualization.input_checks import check_counts, check_pixels, check_positive
from visualization.networks.squeezenet import SqueezeNet

__all__ = [
    "content_loss",
    "extract_features",
    "feature_layers",
    "gram_matrix",
    "read_resized",
    "style_loss",
    "style_transfer",
    "tv_loss",
]

_MAX_PIXELS = 16_000_000
_CLIP = 1.5  # the course's, in SqueezeNet's units

Source = str | os.PathLike[str] | bytes | np.ndarray
Layer = int | str


def style_transfer(
    content_image: Source,
    style_image: Source,
    image_size: int,
    style_size: int,
    content_layer: Layer,
    content_weight: float,
    style_layers: Sequence[Layer],
    style_weights: Sequence[float],
    tv_weight: float,
    init_random: bool = False,
    *,
    init_image: Source | None = None,
    model: keras.Model | None = None,
    num_iterations: int = 200,
    learning_rate: float = 3.0,
    clip: bool = True,
    relative_weights: bool = False,
    keep_colors: bool = False,
    show_every: int = 100,
    seed: int = 0,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    on_frame: Callable[[int, np.ndarray], object] | None = None,
) -> np.ndarray:
    """Paints the content image in the style of the other, by Adam on the image.

    The last tenth of the iterations takes steps of a thirtieth of the length, as in the course. A step
    is compiled.

    Args:
        content_image: what to paint: a path, a URL, a file's content, or uint8 (H, W, 3).
        style_image: how to paint it, likewise.
        image_size: the shorter side of what is painted, in pixels; the aspect ratio is kept.
        style_size: the shorter side that the style image is resized to; a smaller one has finer
            strokes.
        content_layer: the layer whose feature maps are kept, by name or by its place in what
            `extract_features` returns.
        content_weight: of `content_loss`; 0 makes a texture. The course's weights are for its own
            checkpoint: for the bundled SqueezeNet, whose feature maps are about ten times as large,
            divide this by 100 and `style_weights` by 10,000.
        style_layers: the layers whose Gram matrices are matched, by name or place.
        style_weights: of `style_loss`, one for each of them; zeros invert the content's features.
        tv_weight: of `tv_loss`.
        init_random: start from uniform noise instead of the content image.
        init_image: start from this picture, resized to what is painted, instead of both. What was
            painted at a smaller size and is carried on at a larger one has broader strokes (Gatys et
            al. 2017, "Controlling perceptual factors in neural style transfer", arXiv:1611.07865).
        model: a Functional or Sequential Keras model, which need not take images of this size in
            itself; by default SqueezeNet.
        num_iterations: how many steps.
        learning_rate: Adam's, in the units of SqueezeNet's input.
        clip: after each step, clip to -1.5..1.5 in the units of SqueezeNet's input, as the course
            does; such pictures are shown with `deprocess_image(..., rescale=True)`. If False, the image
            is clipped to what pixels can be.
        relative_weights: weigh each content and style loss relative to the sum of squares of what it
            is to match, and `tv_loss` by the number of values, so that the same weights do for images
            of any size and for other layers and models.
        keep_colors: paint in grey, the style's brightness fitted to the content's, and give the result
            the content's colours (Gatys et al. 2016, "Preserving color in neural artistic style
            transfer", arXiv:1606.05897, luminance only).
        show_every: how often `on_frame` is called.
        seed: of the noise.
        preprocess: pixels to the model's input; by default SqueezeNet's `preprocess_image`.
        bounds: the pixel values that `preprocess` expects for black and white.
        on_frame: called with the number of iterations done and the image so far, as it is returned,
            after the first iteration, every `show_every`, and the last.

    Returns:
        The image as the model's input, float32 (1, H, W, 3).

    Raises:
        ValueError: an image cannot be read, is too large or too small, a number is out of its range,
            or the model has no such layer.
        OSError: a file is missing, or a URL cannot be downloaded.

    Example:
        >>> photo, painting = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3)).astype("uint8")
        >>> layers = [keras.layers.Conv2D(4, 3, name=name) for name in ("first", "second")]
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        >>> settings = {"model": model, "num_iterations": 2}
        >>> style_transfer(photo, painting, 24, 16, "second", 1, ["first"], [1], 0, **settings).shape
        (1, 24, 32, 3)
    """
    check_positive(learning_rate=learning_rate)
    check_counts(num_iterations=num_iterations, show_every=show_every)
    _check_weights(style_layers, style_weights)
    for name, weight in {"content_weight": content_weight, "tv_weight": tv_weight}.items():
        _check_weight(name, weight)
    content = read_resized(content_image, image_size, "image_size")[None]  # (1, H, W, 3)
    style = read_resized(style_image, style_size, "style_size")[None]
    model = _squeezenet() if model is None else model
    scaling = PixelScaling(preprocess, bounds)
    colours = content
    if keep_colors:
        content, style = _brightness(content, style)

    names = [_layer_name(layer, model) for layer in (content_layer, *style_layers)]
    features_of = compiled(model, _cut, tuple(names))
    X, style_X = scaling.to_input(content), scaling.to_input(style)
    content_target, *_ = _targets(features_of, X, names)
    _, *style_features = _targets(features_of, style_X, names)
    style_targets = [gram_matrix(features) for features in style_features]
    weights = np.array([content_weight, tv_weight, *style_weights], np.float64)
    weights[1] /= scaling.relative_range**2  # as for SqueezeNet's input
    if relative_weights:
        sizes = [np.square(target).sum() for target in (content_target, *style_targets)]
        weights /= np.maximum([sizes[0], X.size, *sizes[1:]], 1e-12)

    if init_image is not None:
        height, width = content.shape[1:3]
        first = _open(init_image).resize((width, height), Image.Resampling.BICUBIC)
        X = scaling.to_input(
            np.asarray(first.convert("L").convert("RGB") if keep_colors else first)[None]
        )
    elif init_random:
        noise = np.random.default_rng(seed).random(X.shape, np.float32)  # 0..1, as in the course
        X = noise * np.float32(scaling.relative_range)
    lower, upper = scaling.lower, scaling.upper
    if clip:
        limits = 255 * (SQUEEZENET_MEAN + np.outer([-_CLIP, _CLIP], SQUEEZENET_STD))
        lower, upper = scaling.to_input(limits[:, None, None])[:, 0, 0]  # (3,) each
    step = compiled(model, _build_step, tuple(names))
    slow_from = num_iterations - num_iterations // 10
    rate = learning_rate * scaling.relative_range
    targets = content_target, tuple(style_targets)
    settings = weights.astype(np.float32), lower, upper
    targets, settings = tf.nest.map_structure(tf.convert_to_tensor, (targets, settings))

    def finished(image: Any) -> np.ndarray:
        if not keep_colors:
            return np.asarray(image)
        return scaling.to_input(_recoloured(scaling.to_pixels(image), colours))

    def advance(state: tuple, _: np.ndarray, done: np.int32, until: np.int32) -> tuple[tuple, Any]:
        for t in range(done, until):
            slowed = rate if t < slow_from else rate / 30
            state = step(np.int32(t), *state, *targets, np.float32(slowed), *settings)
        return state, finished(state[0])

    start = lambda _: (X, np.zeros_like(X), np.zeros_like(X))  # noqa: E731
    one = np.zeros(1, np.int32)
    return draw_in_batches(one, start, advance, num_iterations, show_every, on_frame)


def extract_features(x: Any, model: keras.Model) -> list[Any]:
    """The feature maps of every layer of a model but the last two.

    Those of SqueezeNet are 0 conv1, 1 pool1, 2 fire2, 3 fire3, 4 pool3, 5 fire4, 6 fire5, 7 pool5 and
    8 to 11 fire6 to fire9.

    Args:
        x: the model's input, floating point (N, H, W, C); any size that its layers can take.
        model: a Functional or Sequential Keras model.

    Returns:
        One (N, h, w, c) a layer; tensors, through which gradients pass, if x is one, else arrays.
        Layers without feature maps, as a classifier has, are left out.

    Raises:
        ValueError: x is not such a batch, or the model is neither Functional nor Sequential.

    Example:
        >>> features = extract_features(np.zeros((1, 192, 256, 3), np.float32), SqueezeNet())
        >>> len(features), features[2].shape
        (12, (1, 47, 63, 128))
    """
    if not tf.is_tensor(x):
        return [maps.numpy() for maps in extract_features(tf.constant(np.asarray(x)), model)]
    if x.shape.rank != 4 or not x.dtype.is_floating:
        raise ValueError(
            f"x is {x.dtype.name} {tuple(x.shape)}, expected floating point (N, H, W, C)"
        )
    return list(compiled(model, _cut, tuple(feature_layers(model)))(x))


def feature_layers(model: keras.Model) -> list[str]:
    """The names of the layers whose feature maps `extract_features` returns, in that order.

    Raises:
        ValueError: the model is neither Functional nor Sequential, or has not one input.

    Example:
        >>> feature_layers(SqueezeNet(weights=None))[:4]
        ['conv1', 'pool1', 'fire2', 'fire3']
    """
    last = {layer.name for layer in model.layers[-2:]}
    return [name for name in _feature_maps(model) if name not in last]


def content_loss(content_weight: float, content_current: Any, content_original: Any) -> Any:
    """content_weight * the sum of (content_current - content_original)^2.

    Args:
        content_weight: the weight.
        content_current: feature maps of the image, (1, h, w, c).
        content_original: those of the content image, of the same shape.

    Returns:
        A scalar; a tensor if content_current is one, else a NumPy number.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> print(content_loss(0.5, np.ones((1, 2, 2, 1)), np.zeros((1, 2, 2, 1))))
        2.0
    """
    if np.shape(content_current) != np.shape(content_original):
        raise ValueError(
            f"content_current has shape {tuple(np.shape(content_current))}, content_original "
            f"{tuple(np.shape(content_original))}: expected the same"
        )
    loss = content_weight * _sum_of_squares(content_current - content_original)
    return loss if tf.is_tensor(content_current) else loss.numpy()


def gram_matrix(features: Any, normalize: bool = True) -> Any:
    """The Gram matrix of feature maps: how often two channels are active at the same place.

    G = F^T F of F, the maps as a matrix (h w, c); divided by h w c if normalised.

    Args:
        features: floating point (1, h, w, c).
        normalize: divide by the number of values.

    Returns:
        (c, c), of the features' dtype; a tensor if they are one, else an array.

    Raises:
        ValueError: the features have another shape.

    Example:
        >>> gram_matrix(np.array([[[[1.0, 2.0]]]]), normalize=False).tolist()
        [[1.0, 2.0], [2.0, 4.0]]
    """
    maps = tf.convert_to_tensor(features)
    if maps.shape.rank != 4 or maps.shape[0] not in (1, None):
        raise ValueError(f"features have shape {tuple(maps.shape)}, expected (1, h, w, c)")
    F = tf.reshape(maps, (-1, maps.shape[3]))  # (h w, c)
    G = _products_of_channels(F)  # (c, c)
    if normalize:
        G /= tf.cast(tf.size(F), F.dtype)
    return G if tf.is_tensor(features) else G.numpy()


def style_loss(
    feats: Sequence[Any],
    style_layers: Sequence[int],
    style_targets: Sequence[Any],
    style_weights: Sequence[float],
) -> Any:
    """The sum over layers of weight * the sum of (Gram matrix - target)^2.

    Args:
        feats: feature maps of the image, as `extract_features` returns them.
        style_layers: the places in feats of the layers that count.
        style_targets: the style image's Gram matrix in each of those layers, (c, c).
        style_weights: the weight of each.

    Returns:
        A scalar; a tensor if the feature maps are tensors, else a NumPy number.

    Raises:
        ValueError: there are not as many targets or weights as layers.

    Example:
        >>> feats = [np.ones((1, 1, 1, 2)), np.zeros((1, 1, 1, 3))]
        >>> print(style_loss(feats, [0], [np.zeros((2, 2))], [3.0]))
        3.0
    """
    if not len(style_layers) == len(style_targets) == len(style_weights):
        raise ValueError(
            f"there are {len(style_layers)} style_layers, {len(style_targets)} style_targets and "
            f"{len(style_weights)} style_weights: expected one target and one weight for each layer"
        )
    loss: Any = np.float32(0)
    for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True):
        squares = _sum_of_squares(gram_matrix(feats[layer]) - target)
        loss += weight * squares if tf.is_tensor(feats[layer]) else weight * squares.numpy()
    return loss


def tv_loss(img: Any, tv_weight: float) -> Any:
    """Total variation: tv_weight * the sum of squared differences of neighbouring values.

    Args:
        img: floating point (1, H, W, C).
        tv_weight: the weight.

    Returns:
        A scalar; a tensor if img is one, else a NumPy number.

    Raises:
        ValueError: img has another shape.

    Example:
        >>> print(tv_loss(np.array([0.0, 1.0, 3.0]).reshape(1, 1, 3, 1), 2.0))
        10.0
    """
    if len(np.shape(img)) != 4:
        raise ValueError(f"img has shape {tuple(np.shape(img))}, expected (1, H, W, C)")
    loss = tv_weight * _squared_differences(tf.convert_to_tensor(img))
    return loss if tf.is_tensor(img) else loss.numpy()


def read_resized(source: Source, size: int, what: str = "size") -> np.ndarray:
    """Reads an image and resizes its shorter side, keeping the aspect ratio.

    Args:
        source: a path, a URL, a file's content, or uint8 (H, W, 3).
        size: of the shorter side, in pixels.
        what: what errors call `size`.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        ValueError: the image cannot be read, or would have more than 16 megapixels.
        OSError: the file is missing, or the URL cannot be downloaded.

    Example:
        >>> read_resized(np.zeros((30, 40, 3), np.uint8), 15).shape
        (15, 20, 3)
    """
    check_counts(**{what: size})
    image = _open(source)
    scale = size / min(image.size)
    width, height = (max(size, int(side * scale)) for side in image.size)
    if width * height > _MAX_PIXELS:
        raise ValueError(
            f"{what} {size} makes {width} x {height} pixels of an image of {image.width} x "
            f"{image.height}, at most {_MAX_PIXELS:,} are painted: give a smaller one"
        )
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _open(source: Source) -> Image.Image:
    pixels = source if isinstance(source, np.ndarray) else load_image(source)
    return Image.fromarray(check_pixels(pixels[None])[0])


def _sum_of_squares(x: Any) -> tf.Tensor:
    return tf.reduce_sum(tf.square(x))


@tf.custom_gradient
def _products_of_channels(F: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """F^T F of F (h w, c), with a gradient of one product, F (dG + dG^T), where a tape makes two."""
    back = lambda dG: tf.matmul(F, dG + tf.transpose(dG))  # noqa: E731
    return tf.matmul(F, F, transpose_a=True), back


@tf.custom_gradient
def _squared_differences(img: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """The sum over neighbours in img (1, H, W, C); a tape's gradient of a slice takes longer."""
    down = img[:, 1:] - img[:, :-1]
    right = img[:, :, 1:] - img[:, :, :-1]

    def back(upstream: tf.Tensor) -> tf.Tensor:
        # A difference counts for the value after it, and against the one before.
        first, last, none = (1, 0), (0, 1), (0, 0)
        vertical = tf.pad(down, (none, first, none, none)) - tf.pad(down, (none, last, none, none))
        horizontal = tf.pad(right, (none, none, first, none)) - tf.pad(
            right, (none, none, last, none)
        )
        return 2 * upstream * (vertical + horizontal)

    return _sum_of_squares(down) + _sum_of_squares(right), back


def _build_step(
    get_model: Callable[[], keras.Model], names: tuple[str, ...]
) -> Callable[..., tuple[tf.Tensor, ...]]:
    """A step of Adam (Kingma, Ba 2015, algorithm 1) on the image.

    It is a graph of its own: in a loop, oneDNN does not always find what max pooling noted on the way
    forward, without which TensorFlow goes back through it six times as slowly.

    Args:
        names: the content layer, then the style layers.
    """
    style_layers = range(1, len(names))

    @tf.function(reduce_retracing=True, autograph=False)
    def step(
        t: tf.Tensor,
        X: tf.Tensor,  # (1, H, W, 3)
        mean: tf.Tensor,  # Adam's first moment
        square: tf.Tensor,  # Adam's second moment
        content_target: tf.Tensor,  # (1, h, w, c)
        style_targets: tuple[tf.Tensor, ...],  # (c, c) each
        learning_rate: tf.Tensor,
        weights: tf.Tensor,  # of the content, of the total variation, of each style layer
        lower: tf.Tensor,  # (3,), the least that an image may hold
        upper: tf.Tensor,  # (3,), and the most
    ) -> tuple[tf.Tensor, ...]:
        content_weight, tv_weight, *style_weights = tf.unstack(weights, len(names) + 1)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(X)
            feats = _cut(get_model, names)(X)
            loss = (
                content_weight * _sum_of_squares(feats[0] - content_target)
                + style_loss(feats, style_layers, style_targets, style_weights)
                + tv_loss(X, tv_weight)
            )
        gradient = tape.gradient(loss, X)
        mean, square, direction, scale = adam_moments(t, gradient, mean, square)
        X -= learning_rate * tf.math.divide_no_nan(direction, scale)
        return tf.minimum(tf.maximum(X, lower), upper), mean, square

    return step


# ------------------------------------------------------------ layers


def _cut(
    get_model: Callable[[], keras.Model], names: tuple[str, ...]
) -> Callable[[Any], tuple[tf.Tensor, ...]]:
    """The function from images, of any size, to what the named layers make of them."""
    maps = _feature_maps(get_model())
    part = keras.Model(get_model().inputs[0], [maps[name] for name in names])

    def features(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # `call`, since calling the model itself would insist on the size that it was built for
        found = tf.nest.flatten(part.call(x, training=False))
        return tuple(f if f.dtype == tf.float64 else tf.cast(f, tf.float32) for f in found)

    return features


@functools.cache
def _squeezenet() -> keras.Model:
    """Built once: the course paints several pictures in a row."""
    return SqueezeNet()


def _feature_maps(model: keras.Model) -> dict[str, Any]:
    """The layers that have feature maps, in the model's order: name -> symbolic (N, h, w, c)."""
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(
            f"model {getattr(model, 'name', model)!r} does not say how its layers are connected: "
            "give a Functional or Sequential model with one input"
        )
    maps = {}
    for layer in model.layers:
        # a layer that is used twice has no one output
        with contextlib.suppress(AttributeError, ValueError):
            shape = getattr(layer.output, "shape", ())
            if len(shape) == 4 and not isinstance(layer, keras.layers.InputLayer):
                maps[layer.name] = layer.output
    return maps


def _layer_name(layer: Layer, model: keras.Model) -> str:
    known = list(_feature_maps(model))
    if isinstance(layer, str):
        if layer not in known:
            raise ValueError(
                f"model {model.name!r} has no layer {layer!r} with feature maps: "
                f"name one of {', '.join(known)}"
            )
        return layer
    numbered = feature_layers(model)
    if isinstance(layer, bool) or not isinstance(layer, int | np.integer):
        raise TypeError(f"the layer {layer!r} is neither a name nor a whole number")
    if not 0 <= layer < len(numbered):
        raise ValueError(
            f"there is no layer {layer}: model {model.name!r} has {len(numbered)} with feature maps, "
            "counted from 0, without its last two"
        )
    return numbered[layer]


# ------------------------------------------------------------ checks and pixels


def _check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < np.inf:
        raise ValueError(f"{name} is {weight}, expected a number of at least 0")


def _check_weights(style_layers: Sequence[Layer], style_weights: Sequence[float]) -> None:
    if len(style_layers) != len(style_weights):
        raise ValueError(
            f"there are {len(style_layers)} style_layers and {len(style_weights)} style_weights: "
            "give one weight for each layer"
        )
    for weight in style_weights:
        _check_weight("a style weight", weight)


def _targets(
    features_of: Callable[[Any], tuple[tf.Tensor, ...]], X: np.ndarray, names: Sequence[str]
) -> list[np.ndarray]:
    """The feature maps of an image, none of them empty."""
    try:
        features = [maps.numpy() for maps in features_of(tf.constant(X))]
    except (ValueError, tf.errors.InvalidArgumentError):  # less than nothing would be left
        features = [np.zeros(0)]
    if not all(maps.size for maps in features):
        raise ValueError(
            f"an image of {X.shape[1]} x {X.shape[2]} pixels is too small for the layers "
            f"{', '.join(names)}"
        )
    return features


def _brightness(content: np.ndarray, style: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in grey, the style's with the mean and standard deviation of the content's."""
    grey, other = (
        np.asarray(Image.fromarray(image[0]).convert("L"), np.float32) for image in (content, style)
    )
    other = (other - other.mean()) / max(float(other.std()), 1e-3) * grey.std() + grey.mean()
    greys = (np.clip(image, 0, 255).round().astype(np.uint8) for image in (grey, other))
    content, style = (np.repeat(image[None, ..., None], 3, axis=-1) for image in greys)
    return content, style


def _recoloured(painted: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The brightness of one picture and the colours of another, uint8 (1, H, W, 3) each."""
    brightness = Image.fromarray(painted[0]).convert("L")
    _, blue, red = Image.fromarray(colours[0]).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (brightness, blue, red)).convert("RGB"))[None]

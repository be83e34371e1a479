"""Class visualisation in frequency space: pictures in which one recognises the class.

After Olah, Mordvintsev, Schubert (2017), "Feature visualization", Distill,
https://distill.pub/2017/feature-visualization.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.adam import adam_moments
from visualization.backend import keras, tf
from visualization.channels_first import also_channels_first
from visualization.class_visualization import check_jitter, check_targets, draw_in_batches
from visualization.compilation import compiled
from visualization.files.bundle import SPECTRUM, read_bundled
from visualization.gradients import outputs_before_ascent
from visualization.images.pixel_scaling import PixelScaling
from visualization.images.transforms import jitter, resample
from visualization.input_checks import check_counts, check_positive, warn_without_preprocess

__all__ = ["paint_class"]

_CONTRAST = 4  # so that the sigmoid's slope is 1 in the middle
_FIRST = 0.1  # of the contrast of photographs, in the noise from which a drawing starts

# By column grey, red against blue, and green against magenta, which are uncorrelated in photographs
# (Ruderman, Cronin, Chiao 1998, "Statistics of cone responses to natural images").
OPPONENT_COLOURS = (
    (3**-0.5, 2**-0.5, -(6**-0.5)),  # red
    (3**-0.5, 0.0, 2 * 6**-0.5),  # green
    (3**-0.5, -(2**-0.5), -(6**-0.5)),  # blue
)


@also_channels_first
def paint_class(
    target_y: Any,
    model: keras.Model,
    *,
    num_iterations: int = 128,
    learning_rate: float = 0.05,
    max_jitter: int | None = None,
    max_zoom: float = 2,
    show_every: int = 32,
    seed: int = 0,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    image_shape: tuple[int, int, int] | None = None,
    on_frame: Callable[[int, np.ndarray], object] | None = None,
) -> np.ndarray:
    """Draws what the model takes for a class, by Adam on an image's Fourier coefficients.

    The image is a sigmoid of an inverse Fourier transform, in grey and two opponent colours. The unit
    of each coefficient is what photographs have of that frequency in that colour, so that steps of Adam
    make forms and colours as strong as theirs. Adam climbs the class's score, and each step sees a part
    of the image, shifted by up to `max_jitter` - 1 pixels and enlarged. Pixels are valid at every step,
    so what is saved is what was optimised. While the class's score has no gradient, the highest other
    score is lowered instead.

    Args:
        num_iterations: how many steps of Adam.
        learning_rate: Adam's.
        max_zoom: how many times the part that a step sees is enlarged at most; 1 for the whole image
            always. A network that is content with texture, as EfficientNet-Lite2 is, draws forms only
            if they must do at every size.
        target_y, model, max_jitter, show_every, seed, preprocess, bounds, image_shape, on_frame: as
            for `create_class_visualization`.

    Returns:
        The images as the model's input, float32 (N, H, W, C), one for each class.

    Raises:
        ValueError: a class that does not exist, or a number out of its range.
        TypeError: target_y is not of integers.
        OSError: the spectrum of photographs, which is bundled, is missing.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> settings = {"num_iterations": 2, "preprocess": lambda pixels: pixels / 255}
        >>> paint_class([0, 2], model, **settings).shape
        (2, 4, 4, 3)
    """
    check_positive(learning_rate=learning_rate)
    if not 1 <= max_zoom < np.inf:
        raise ValueError(f"max_zoom is {max_zoom}, expected a number of at least 1")
    check_counts(num_iterations=num_iterations, show_every=show_every)
    targets, shape, asked = check_targets(target_y, model, image_shape)
    max_jitter = check_jitter(max_jitter, shape)
    scaling = PixelScaling(preprocess, bounds, shape[2])
    warn_without_preprocess(model, preprocess)
    height, width, channels = shape
    generator = np.random.default_rng(seed)
    real_and_imaginary = (1, 2, channels, height, width // 2 + 1)
    noise = _FIRST * generator.standard_normal(real_and_imaginary, dtype=np.float32)
    shifts = generator.integers(0, max_jitter, (num_iterations, 2), dtype=np.int32)
    sides = 1 - generator.random((num_iterations, 1)) * (1 - 1 / max_zoom)  # of the part seen
    corners = generator.random((num_iterations, 2)) * (1 - sides)
    parts = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)  # (T, 4)
    colours = np.eye(channels, dtype=np.float32)
    if channels == 3:
        colours = np.array(OPPONENT_COLOURS, np.float32)[list(scaling.channel_order)]
    steps = compiled(asked, _build_steps, shape, max_zoom > 1)
    settings = np.float32(learning_rate), colours, scaling.lower, scaling.upper

    def start(count: int) -> tuple[np.ndarray, ...]:
        spectrum = np.repeat(noise, count, axis=0)
        return spectrum, np.zeros_like(spectrum), np.zeros_like(spectrum)

    def advance(
        state: tuple, chosen: np.ndarray, done: np.int32, until: np.int32
    ) -> tuple[tuple, Any]:
        images, *state_after = steps(*state, chosen, shifts, parts, done, until, *settings)
        return tuple(state_after), images

    return draw_in_batches(targets, start, advance, num_iterations, show_every, on_frame)


def _magnitudes(height: int, width: int, channels: int) -> np.ndarray:
    """What photographs have of each frequency, as `np.fft.rfft2` has it: (C, H, W // 2 + 1)."""
    known = np.load(io.BytesIO(read_bundled(SPECTRUM)), allow_pickle=False)  # (3, F)
    if channels != 3:
        known = np.repeat(known[:1] / 3**0.5, channels, axis=0)  # of grey, in each channel
    side, measured = max(height, width), np.arange(known.shape[1])
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    cycles = np.maximum(side * np.hypot(rows, columns), 1)  # in a picture, (H, W // 2 + 1)
    # They fall about as 1/f^2, which is what is taken for frequencies that are not measured.
    level = np.stack([np.interp(cycles, measured, measured**2 * plane) for plane in known])
    magnitudes = side * np.sqrt(height * width) * level / cycles**2
    magnitudes[:, 0, 0] = 0  # the mean of a drawing, which stays grey
    return magnitudes.astype(np.float32)


def _build_steps(
    get_model: Callable[[], keras.Model], shape: tuple[int, int, int], zooms: bool
) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Steps of Adam (Kingma, Ba 2015, algorithm 1) on the spectrum, as one graph."""
    height, width, channels = shape
    magnitudes = _magnitudes(height, width, channels)

    def image(spectrum: tf.Tensor, colours: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> Any:
        real, imaginary = tf.unstack(spectrum * magnitudes, axis=1)  # (N, C, H, W // 2 + 1) each
        planes = tf.signal.irfft2d(
            tf.complex(real, imaginary), fft_length=[height, width]
        )  # (N, C, H, W)
        pixels = tf.sigmoid(_CONTRAST * tf.einsum("nchw,dc->nhwd", planes, colours))
        return lower + (upper - lower) * pixels

    @tf.function(reduce_retracing=True, autograph=False)
    def steps(
        spectrum: tf.Tensor,  # (N, 2, C, H, W // 2 + 1)
        mean: tf.Tensor,  # Adam's first moment
        square: tf.Tensor,  # Adam's second moment
        targets: tf.Tensor,  # (N,)
        shifts: tf.Tensor,  # (T, 2)
        parts: tf.Tensor,  # (T, 4): top, left, bottom, right, from 0 to 1
        done: tf.Tensor,
        until: tf.Tensor,
        learning_rate: tf.Tensor,
        colours: tf.Tensor,  # (C, C)
        lower: tf.Tensor,  # (C,), the input for black
        upper: tf.Tensor,  # (C,), and for white
    ) -> tuple[tf.Tensor, ...]:
        def step(
            t: tf.Tensor, spectrum: tf.Tensor, mean: tf.Tensor, square: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(spectrum)
                seen = jitter(image(spectrum, colours, lower, upper), shifts[t, 0], shifts[t, 1])
                if zooms:
                    top, left, bottom, right = tf.unstack(parts[t])
                    rows = _enlarging(top, bottom, height)  # (H, H)
                    columns = _enlarging(left, right, width)  # (W, W)
                    seen = resample(seen, rows, columns)
            _, ascent = outputs_before_ascent(get_model(), seen, targets)
            gradient = tape.gradient(seen, spectrum, output_gradients=ascent())
            mean, square, direction, scale = adam_moments(t, gradient, mean, square)
            return t + 1, spectrum + learning_rate * direction / (scale + 1e-8), mean, square

        _, spectrum, mean, square = tf.while_loop(
            lambda t, *_: t < until, step, (done, spectrum, mean, square)
        )
        return image(spectrum, colours, lower, upper), spectrum, mean, square

    return steps


def _enlarging(first: tf.Tensor, last: tf.Tensor, size: int) -> tf.Tensor:
    """The matrix (size, size) that enlarges a part of a column of pixels to all of it, linearly.

    `tf.image.crop_and_resize` does the same, but its gradient differs from one run to the next in the
    last digits.
    """
    places = (first + (last - first) * tf.linspace(0.0, 1.0, size)) * (size - 1)  # (size,)
    distances = tf.abs(places[:, tf.newaxis] - tf.range(size, dtype=tf.float32))
    return tf.maximum(1 - distances, 0)

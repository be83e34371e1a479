import subprocess
import sys

import numpy as np
import pytest

from visualization import (
    SQUEEZENET_MEAN,
    SQUEEZENET_STD,
    blur_image,
    class_visualization_update_step,
    create_class_visualization,
    deprocess_image,
    jitter,
    paint_class,
    predict_scores,
    preprocess_image,
)
from visualization.backend import keras, tf
from visualization.files.bundle import BUNDLE, SPECTRUM
from visualization.gradients import softmax

from .models import shared

TARANTULA, GORILLA = 76, 366


def test_an_update_step_is_the_gradient_of_the_score_less_the_penalty():
    model, X, _ = shared("nested in another")
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        inside, head = model.layers[1:]
        scores = inside(x) @ head.kernel + head.bias
        value = tf.reduce_sum(scores[:, 3]) - 0.02 * tf.reduce_sum(x**2)
    expected = X + 5 * tape.gradient(value, x).numpy()
    changed = class_visualization_update_step(X, model, 3, 0.02, 5)
    np.testing.assert_allclose(changed, expected, atol=1e-5)
    assert tf.is_tensor(class_visualization_update_step(x, model, 3, 0.02, 5))


def by_hand(target, model, iterations, seed, normalize):
    """The course's loop with its own helpers, one Python iteration at a time."""
    random = np.random.default_rng(seed)
    X = preprocess_image(255 * random.random((1, 224, 224, 3)))
    shifts = random.integers(0, 16, (iterations, 2), dtype=np.int32)
    for t, (ox, oy) in enumerate(shifts):
        before = jitter(X, ox, oy)
        after = class_visualization_update_step(before, model, target, 1e-3, 25)
        if normalize:
            after = before + 25 * (after - before) / np.linalg.norm(after - before)
        X = jitter(after, -ox, -oy)
        X = np.clip(X, -SQUEEZENET_MEAN / SQUEEZENET_STD, (1 - SQUEEZENET_MEAN) / SQUEEZENET_STD)
        if t % 2 == 0:
            X = blur_image(X, sigma=0.5)
    return X


@pytest.mark.parametrize("draw", [create_class_visualization, paint_class])
def test_small_images_are_shifted_less_so_that_their_class_is_reached(draw):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, use_bias=False)]
    model = keras.Sequential([keras.Input((28, 28, 3)), *layers])
    bars = np.full((28, 28, 3, 10), -0.1, np.float32)
    for k in range(10):
        bars[2 * k + 4 : 2 * k + 6, ..., k] = 1  # class k is a bar at its own height
    model.set_weights([bars.reshape(-1, 10)])
    settings = {"num_iterations": 30, "preprocess": lambda pixels: pixels / 255}
    drawn = draw(list(range(10)), model, **settings)
    assert predict_scores(model, drawn).argmax(axis=1).tolist() == list(range(10))
    smeared = draw(list(range(10)), model, max_jitter=16, **settings)
    assert predict_scores(model, smeared).argmax(axis=1).tolist() != list(range(10))


@pytest.mark.parametrize("normalize", [False, True])
def test_it_is_the_courses_loop(squeezenet, normalize):
    """For a few steps; later ones make much of the last digit."""
    expected = by_hand(TARANTULA, squeezenet, 3, seed=5, normalize=normalize)
    X = create_class_visualization(
        TARANTULA, squeezenet, num_iterations=3, blur_every=2, seed=5, normalize=normalize
    )
    assert np.median(np.abs(X - expected)) < 1e-3
    assert np.quantile(np.abs(X - expected), 0.95) < 0.02


def test_classes_in_a_batch_are_drawn_as_alone_and_frames_change_nothing(squeezenet):
    frames = []
    together = create_class_visualization(
        [TARANTULA, GORILLA],
        squeezenet,
        num_iterations=4,
        show_every=3,
        on_frame=lambda done, X: frames.append((done, X)),
    )
    assert [done for done, _ in frames] == [1, 3, 4]
    np.testing.assert_array_equal(frames[-1][1], together)
    alone = create_class_visualization(GORILLA, squeezenet, num_iterations=4)
    assert np.median(np.abs(alone[0] - together[1])) < 1e-3


@pytest.mark.slow
def test_the_normalised_course_loop_draws_a_class_that_is_recognised(squeezenet):
    X = create_class_visualization(TARANTULA, squeezenet, normalize=True)
    saved = preprocess_image(deprocess_image(X))
    assert softmax(predict_scores(squeezenet, saved))[0, TARANTULA] > 0.9


def test_painting_is_repeatable_valid_and_follows_its_seed(squeezenet):
    draw = lambda **k: paint_class(GORILLA, squeezenet, num_iterations=6, **k)  # noqa: E731
    first = draw()
    np.testing.assert_array_equal(first, draw())
    assert not np.array_equal(first, draw(seed=1))
    assert (first >= -SQUEEZENET_MEAN / SQUEEZENET_STD - 1e-5).all()
    assert (first <= (1 - SQUEEZENET_MEAN) / SQUEEZENET_STD + 1e-5).all()


@pytest.mark.parametrize("size", [64, 28])
def test_painting_starts_with_the_spectrum_and_the_colours_of_photographs(size):
    model = keras.Sequential([keras.Input((size, size, 3)), keras.layers.GlobalAveragePooling2D()])
    settings = {
        "num_iterations": 1,
        "learning_rate": 1e-9,
        "preprocess": lambda pixels: pixels / 255,
    }
    photographs = np.load(BUNDLE / SPECTRUM)
    power = np.zeros((3, size, size))
    for seed in range(4):
        (drawn,) = paint_class(0, model, seed=seed, **settings).astype(np.float64)
        before_sigmoid = np.log(drawn / (1 - drawn)) / 4
        red, green, blue = np.moveaxis(before_sigmoid, 2, 0)
        grey, red_blue = (red + green + blue) / 3**0.5, (red - blue) / 2**0.5
        planes = np.stack([grey, red_blue, (2 * green - red - blue) / 6**0.5])
        power += np.abs(np.fft.fft2(planes, norm="forward")) ** 2 / 4
    steps = size * np.fft.fftfreq(size)
    frequency = np.rint(np.hypot(steps[:, None], steps)).astype(int)
    for low, high in ((2, 4), (4, 8), (8, 13)):
        band = (frequency >= low) & (frequency < high)
        found = power[:, band].mean(axis=1)
        expected = (photographs[:, frequency[band]] ** 2).mean(axis=1)
        np.testing.assert_allclose(found / expected, 2 * 0.1**2, rtol=0.35)


def test_each_step_of_painting_sees_a_part_of_the_image_unless_zoom_is_1(squeezenet):
    whole, parts = (
        paint_class(GORILLA, squeezenet, num_iterations=2, max_zoom=zoom) for zoom in (1, 2)
    )
    assert np.abs(whole - parts).max() > 1e-3
    with pytest.raises(ValueError, match=r"max_zoom is 0\.5, expected a number of at least 1"):
        paint_class(GORILLA, squeezenet, max_zoom=0.5)


@pytest.mark.slow
def test_a_seeded_drawing_is_the_same_to_the_last_byte_in_every_process():
    program = (
        "from visualization import SqueezeNet, create_class_visualization, paint_class\n"
        "for draw in (create_class_visualization, paint_class):\n"
        f"    print(draw([{TARANTULA}, {GORILLA}], SqueezeNet(), num_iterations=3).tobytes().hex())"
    )
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (process.communicate()[0] for process in running)
    assert first == second
    assert len(first.split()) == 2


@pytest.mark.parametrize(
    ("draw", "settings"),
    [(create_class_visualization, {"normalize": True, "l2_reg": 0}), (paint_class, {})],
)
def test_any_model_can_be_drawn_for_with_its_own_preprocessing(draw, settings):
    model, _, _ = shared("sequential that starts with Rescaling")
    frames = []
    drawn = draw(
        2,
        model,
        num_iterations=30,
        preprocess=lambda pixels: pixels,
        on_frame=lambda done, X: frames.append(X),
        **settings,
    )
    assert drawn.shape == (1, 16, 16, 3)
    assert drawn.min() >= 0
    assert drawn.max() <= 255
    before, after = (predict_scores(model, X)[0, 2] for X in (frames[0], drawn))
    assert after > before


@pytest.mark.parametrize(
    ("draw", "target", "iterations"),
    [(paint_class, 550, 50), (create_class_visualization, 547, 30)],
)
def test_a_class_whose_score_is_cut_off_at_the_start_is_drawn_all_the_same(
    draw, target, iterations, squeezenet
):
    first = draw(target, squeezenet, num_iterations=1)
    assert predict_scores(squeezenet, first)[0, target] == 0
    drawn = draw(target, squeezenet, num_iterations=iterations)
    assert predict_scores(squeezenet, drawn)[0].argmax() == target


def test_a_cut_off_class_changes_nothing_for_others_in_its_batch(squeezenet):
    draw = lambda targets: create_class_visualization(targets, squeezenet, num_iterations=2)  # noqa: E731
    together, alone = draw([547, GORILLA]), draw(GORILLA)
    assert np.median(np.abs(alone[0] - together[1])) < 1e-3


def test_a_model_of_any_size_must_be_told_the_size():
    model, _, _ = shared("subclassed that ends in a softmax")
    with pytest.raises(ValueError, match="image_shape"):
        create_class_visualization(1, model, preprocess=lambda x: x / 255)
    drawn = create_class_visualization(
        1, model, num_iterations=2, preprocess=lambda x: x / 255, image_shape=(12, 10, 3)
    )
    assert drawn.shape == (1, 12, 10, 3)


@pytest.mark.parametrize(
    ("settings", "kind", "sentence"),
    [
        ({"target_y": 1000}, ValueError, "no class 1000"),
        ({"target_y": 1.5}, TypeError, "integers"),
        ({"learning_rate": 0}, ValueError, "learning_rate is 0"),
        ({"num_iterations": -1}, ValueError, "num_iterations is -1"),
        ({"l2_reg": -1}, ValueError, "l2_reg is -1"),
        ({"blur_every": 2.5}, ValueError, "blur_every is 2.5, expected a positive integer"),
        ({"l2_reg": float("nan")}, ValueError, "l2_reg is nan"),
        ({"preprocess": lambda x: x**2}, ValueError, "linearly"),
        ({"preprocess": lambda x: 1 - x / 255}, ValueError, "omit the step that inverts the image"),
        ({"bounds": (1, 0)}, ValueError, r"bounds are \(1, 0\)"),
    ],
)
def test_wrong_settings_are_refused(settings, kind, sentence, squeezenet):
    with pytest.raises(kind, match=sentence):
        create_class_visualization(**{"target_y": 1, "model": squeezenet} | settings)

import gc
import weakref

import numpy as np
import pytest
from PIL import Image

import visualization.style as style
from tests.visualization.models import Subclassed, mobilenet
from visualization import (
    content_loss,
    deprocess_image,
    extract_features,
    gram_matrix,
    preprocess_image,
    style_loss,
    style_transfer,
    tv_loss,
)
from visualization.backend import keras, tf
from visualization.images.strokes import draw_strokes

RANDOM = np.random.default_rng(0)
PHOTO = RANDOM.integers(0, 256, (40, 52, 3), dtype=np.uint8)
PAINTING = draw_strokes(48)


def small_model(name="small"):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(6, 3, activation="relu", name="first"),
        keras.layers.Conv2D(8, 3, activation="relu", name="second"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4),
    ]
    return keras.Sequential([keras.Input((16, 16, 3)), *layers], name=name)


@pytest.fixture(scope="module")
def small():
    return small_model()


def transfer(model, **changes):
    settings = {
        "content_image": PHOTO,
        "style_image": PAINTING,
        "image_size": 24,
        "style_size": 24,
        "content_layer": "second",
        "content_weight": 1.0,
        "style_layers": (0, "second"),
        "style_weights": (10.0, 1.0),
        "tv_weight": 1e-3,
        "model": model,
        "num_iterations": 4,
    }
    return style_transfer(**settings | changes)


def gram(F):
    F = F.reshape(-1, F.shape[-1])
    return F.T @ F


@pytest.mark.parametrize("as_tensor", [False, True])
def test_the_losses_are_the_course_s_in_float64(as_tensor):
    give = tf.constant if as_tensor else np.asarray
    a, b = RANDOM.normal(size=(2, 1, 5, 7, 4))
    g = np.array(gram(a)) / a.size
    expected = {
        "content": (content_loss(0.3, give(a), give(b)), 0.3 * ((a - b) ** 2).sum()),
        "gram": (gram_matrix(give(a)), g),
        "gram, not normalised": (gram_matrix(give(a), normalize=False), gram(a)),
        "style": (
            style_loss([give(b), give(a)], [1, 0], [g, g + 1], [2.0, 3.0]),
            3 * ((gram(b) / b.size - g - 1) ** 2).sum(),
        ),
        "tv": (
            tv_loss(give(a), 0.2),
            0.2 * ((np.diff(a, axis=1) ** 2).sum() + (np.diff(a, axis=2) ** 2).sum()),
        ),
    }
    for name, (found, value) in expected.items():
        assert tf.is_tensor(found) == as_tensor, name
        assert found.dtype == (tf.float64 if as_tensor else np.float64), name
        np.testing.assert_allclose(found, value, rtol=1e-12, err_msg=name)


def test_tv_loss_is_the_number_that_the_course_checks(data):
    path = data / "styles" / "tubingen.jpg"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    image = Image.open(path).resize((192, 256), Image.Resampling.NEAREST)  # the course's load_image
    X = preprocess_image(np.asarray(image))[None]
    assert tv_loss(X, 2e-2) == pytest.approx(1704.1948, rel=1e-6)


def test_features_are_numbered_as_in_the_course_at_any_size(squeezenet):
    X = RANDOM.normal(size=(1, 96, 128, 3)).astype(np.float32)
    features = extract_features(X, squeezenet)
    names = ["conv1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5"]
    names += ["fire6", "fire7", "fire8", "fire9"]
    assert len(features) == len(names)
    x = tf.constant(X)
    for name, found in zip(names, features, strict=True):
        x = squeezenet.get_layer(name)(x)
        np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4, err_msg=name)


def test_gradients_pass_through_the_features_of_a_tensor(small):
    x = tf.Variable(RANDOM.normal(size=(1, 20, 24, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        features = extract_features(x, small)
        loss = content_loss(1.0, features[1], 0 * features[1])
    assert np.abs(tape.gradient(loss, x)).max() > 0


def test_the_compiled_loop_is_the_course_s_loop(small):
    weights = {"content_weight": 0.5, "style_weights": (30.0, 2.0), "tv_weight": 2e-2}
    found = transfer(small, num_iterations=10, **weights)
    resized = Image.fromarray(PHOTO).resize((31, 24), Image.Resampling.BICUBIC)
    target = Image.fromarray(PAINTING).resize((24, 24), Image.Resampling.BICUBIC)
    X, S = (preprocess_image(np.asarray(image))[None] for image in (resized, target))
    content_target = extract_features(X, small)[1]
    style_targets = [gram_matrix(features) for features in extract_features(S, small)]
    image = tf.Variable(X)
    adam = keras.optimizers.Adam(3.0)
    for t in range(10):
        adam.learning_rate = 3.0 if t < 9 else 0.1
        with tf.GradientTape() as tape:
            feats = extract_features(image, small)
            loss = content_loss(0.5, feats[1], content_target) + tv_loss(image, 2e-2)
            loss += style_loss(feats, (0, 1), style_targets, (30.0, 2.0))
        adam.apply([tape.gradient(loss, image)], [image])
        image.assign(tf.clip_by_value(image, -1.5, 1.5))
    assert found.shape == (1, 24, 31, 3)
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1.5 + 1e-6
    assert np.mean(np.abs(found - image.numpy()) > 0.01) < 0.02


@pytest.mark.parametrize("name", ["squeezenet", "lite2"])
def test_both_networks_lower_the_loss(name, request):
    model = request.getfixturevalue(name)
    layers = [0, 2]
    X = transfer(
        model,
        image_size=64,
        style_size=64,
        content_layer=3,
        content_weight=0.1,
        style_layers=layers,
        style_weights=(1, 1),
        relative_weights=True,
        learning_rate=0.1,
        num_iterations=20,
        tv_weight=0,
    )
    resized = Image.fromarray(PHOTO).resize((83, 64), Image.Resampling.BICUBIC)
    before = preprocess_image(np.asarray(resized))[None]
    wanted = [gram_matrix(f) for f in extract_features(preprocess_image(PAINTING)[None], model)]

    def distance(X):
        feats = extract_features(X, model)
        return style_loss(feats, layers, [wanted[layer] for layer in layers], (1, 1))

    assert distance(X) < 0.7 * distance(before)


def test_a_deep_model_is_asked_for_layers_by_name():
    model = mobilenet()
    names = {"content_layer": "block_3_expand_relu", "style_layers": ["Conv1", "block_1_project"]}
    assert transfer(model, image_size=40, **names).shape == (1, 40, 52, 3)


def test_frames_show_the_run_and_change_nothing(small):
    frames = {}
    shown = transfer(small, show_every=2, num_iterations=5, on_frame=frames.__setitem__)
    assert list(frames) == [1, 2, 4, 5]
    assert np.array_equal(frames[5], shown)
    assert np.array_equal(shown, transfer(small, num_iterations=5))


def test_noise_to_start_from_is_seeded(small):
    inversion = {"init_random": True, "style_weights": (0, 0)}
    one, same, other = (transfer(small, seed=seed, **inversion) for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("keep_colors", [False, True])
def test_it_starts_from_the_picture_that_is_given(small, keep_colors):
    short = {"learning_rate": 1e-4, "clip": False, "num_iterations": 1, "keep_colors": keep_colors}
    started = deprocess_image(transfer(small, init_image=PAINTING, init_random=True, **short))[0]
    picture = Image.fromarray(PAINTING).resize((31, 24), Image.Resampling.BICUBIC)
    if keep_colors:
        _, *colours = (
            Image.fromarray(PHOTO)
            .resize(picture.size, Image.Resampling.BICUBIC)
            .convert("YCbCr")
            .split()
        )
        picture = Image.merge("YCbCr", (picture.convert("L"), *colours)).convert("RGB")
    assert np.abs(started.astype(int) - np.asarray(picture)).max() <= 1


def test_inversion_brings_the_features_back(small):
    inversion = {"init_random": True, "style_layers": (), "style_weights": (), "tv_weight": 0}
    run = {"content_layer": 0, "learning_rate": 0.1, "clip": False}
    first, last = (transfer(small, num_iterations=n, **inversion, **run) for n in (1, 150))
    resized = Image.fromarray(PHOTO).resize((31, 24), Image.Resampling.BICUBIC)
    wanted = extract_features(preprocess_image(np.asarray(resized))[None], small)[0]
    lost = [content_loss(1.0, extract_features(X, small)[0], wanted) for X in (first, last)]
    assert lost[1] < 0.05 * lost[0]


def test_the_photograph_s_colours_are_kept_on_request(small):
    grey = np.repeat(PAINTING[..., :1], 3, axis=-1)
    painted = deprocess_image(transfer(small, keep_colors=True, clip=False, style_image=grey))
    photo = Image.fromarray(PHOTO).resize((31, 24), Image.Resampling.BICUBIC)
    channels = [
        np.asarray(image.convert("YCbCr"), int) for image in (Image.fromarray(painted[0]), photo)
    ]
    change = np.abs(channels[0] - channels[1]).mean(axis=(0, 1))
    assert change[0] > 5  # brightness
    assert max(change[1:]) < 8  # colours, but where bright ones do not fit into a byte
    plain = deprocess_image(transfer(small, clip=False, style_image=grey))
    assert np.abs(painted.astype(int) - plain).mean() > 5


def test_relative_weights_paint_alike_at_every_scale_of_the_features():
    models = [small_model(), small_model("scaled")]
    for variable in models[1].get_layer("first").weights:
        variable.assign(7 * variable)
    one, scaled = (
        transfer(model, relative_weights=True, tv_weight=0, style_weights=(1, 1))
        for model in models
    )
    assert np.mean(np.abs(one - scaled) > 0.01) < 0.02


def test_a_model_that_is_no_longer_used_is_freed():
    model = small_model()
    transfer(model)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_the_photograph_may_be_a_file(small, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(path)
    assert np.array_equal(transfer(small, content_image=path), transfer(small))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 100_000}, "at most 16,000,000"),
        ({"content_image": PHOTO.astype(float)}, "expected uint8"),
        ({"content_image": PHOTO[:, :, 0]}, "expected uint8"),
        ({"init_image": PHOTO / 255}, "expected uint8"),
        (
            {"content_layer": "third"},
            "no layer 'third' with feature maps: name one of first, second",
        ),
        ({"content_layer": 2}, "there is no layer 2: model 'small' has 2"),
        ({"style_weights": (1.0,)}, "2 style_layers and 1 style_weights"),
        ({"style_weights": (1.0, np.nan)}, "a style weight is nan"),
        ({"content_weight": -1}, "content_weight is -1"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"image_size": 3}, "too small for the layers second, first, second"),
        ({"model": Subclassed()}, "give a Functional or Sequential model with one input"),
    ],
)
def test_wrong_arguments_are_said_in_one_sentence(small, changes, message):
    with pytest.raises(ValueError, match=message):
        transfer(**{"model": small} | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: content_loss(1, np.ones((1, 2, 2, 1)), np.ones((1, 2, 3, 1))), "the same"),
        (lambda: gram_matrix(np.ones((2, 2, 2, 1))), r"\(2, 2, 2, 1\), expected \(1, h, w, c\)"),
        (lambda: style_loss([], [0], [], [1]), "1 style_layers, 0 style_targets"),
        (lambda: tv_loss(np.ones((2, 2, 3)), 1), r"\(2, 2, 3\), expected \(1, H, W, C\)"),
        (lambda: extract_features(PHOTO[None], small_model()), "x is uint8"),
    ],
)
def test_the_parts_check_their_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_default_network_is_built_once(monkeypatch, small):
    style._squeezenet.cache_clear()
    monkeypatch.setattr(style, "SqueezeNet", lambda: small)
    try:
        assert np.array_equal(transfer(None), transfer(small))
    finally:
        style._squeezenet.cache_clear()

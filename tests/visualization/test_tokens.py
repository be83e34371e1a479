"""Grad-CAM of transformers, and the rollout of their attention."""

import numpy as np
import pytest

from visualization import attention_rollout, grad_cam, smoothed
from visualization.backend import keras, tf
from visualization.tokens import token_grid


class Prepend(keras.layers.Layer):
    """Puts tokens that are learned before those of the image, and adds what tells places."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def build(self, shape):
        everywhere = (1, self.count + shape[1], shape[2])
        self.learned = self.add_weight(shape=(1, self.count, shape[2]), initializer="random_normal")
        self.places = self.add_weight(shape=everywhere, initializer="random_normal")

    def call(self, tokens):
        learned = tf.tile(self.learned, (tf.shape(tokens)[0], 1, 1))
        return tf.concat([learned, tokens], axis=1) + self.places


def transformer(pool, blocks=1, others=3, height=32, width=32):
    """A vision transformer with a class token and registers, from whose last layer `pool` reads."""
    keras.utils.set_random_seed(0)
    image = keras.Input((height, width, 1))
    x = keras.layers.Conv2D(16, 4, strides=4)(image)
    x = Prepend(others)(keras.layers.Reshape((-1, 16))(x))
    for block in range(blocks):
        tokens = keras.layers.LayerNormalization(name=f"norm{block}")(x)
        x = x + keras.layers.MultiHeadAttention(4, 4, name=f"attention{block}")(tokens, tokens)
        tokens = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.Dense(16)(keras.layers.Dense(32, activation="gelu")(tokens))
    x = keras.layers.LayerNormalization(name="final")(x)
    x = x[:, 0] if pool == "class token" else keras.ops.mean(x, axis=1)
    return keras.Model(image, keras.layers.Dense(3)(x), name="transformer")


def drawn(count, seed):
    """Squares, discs and diamonds on noise, whose hatching is their class; one in four is missing.

    Returns images (N, 32, 32, 1), what there is (N, 3), and where, (N, 32, 32).
    """
    random = np.random.default_rng(seed)
    X = random.normal(0.4, 0.1, (count, 32, 32))
    y, kinds = random.integers(0, 4, count), random.integers(0, 3, count)
    centres = random.integers(6, 26, (count, 2))
    on = np.zeros(X.shape, bool)
    r, c = np.mgrid[:32, :32]
    hatchings = (r % 2, c % 2, (r + c) % 2)
    for n in np.flatnonzero(y < 3):
        down, right = np.abs(r - centres[n, 0]), np.abs(c - centres[n, 1])
        square, disc = np.maximum(down, right) <= 5, np.hypot(down, right) <= 6
        on[n] = (square, disc, down + right <= 7)[kinds[n]]
        X[n] += on[n] * np.where(hatchings[y[n]], 0.4, -0.4)
    return X[..., None].astype(np.float32), np.eye(4, dtype=np.float32)[y][:, :3], on


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["mean", "class token"])
def test_maps_of_a_trained_transformer_lie_on_the_shapes_that_it_has_not_seen(pool):
    X, Y, _ = drawn(1000, seed=0)
    model = transformer(pool)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(X, Y, batch_size=50, epochs=6, verbose=0)
    X, Y, on = drawn(80, seed=1)
    shown = np.flatnonzero(Y.any(axis=1))[:50]
    X, y, on = X[shown], Y[shown].argmax(axis=1), on[shown]

    def hits(maps):
        return sum(one.ravel()[values.argmax()] for one, values in zip(on, maps, strict=True))

    assert hits(grad_cam(X, y, model)) >= 45
    for weighting in ("hirescam", "layercam"):
        assert hits(grad_cam(X, y, model, weighting=weighting)) >= 45
    assert hits(smoothed(grad_cam, samples=5)(X, y, model)) >= 45
    if pool == "mean":
        assert hits(grad_cam(X, y, model, weighting="grad-cam")) >= 45
    else:  # most of its mean gradient is that of cells which the class token does not look at
        assert hits(attention_rollout(X, model)) >= 45


def cam_by_hand(model, layer, X, label, others, grid):
    """Grad-CAM of the paper on a model cut at a layer, whose tokens are put on the grid here."""
    cut = keras.Model(model.inputs, [model.get_layer(layer).output, model.outputs[0]])
    with tf.GradientTape() as tape:
        tokens, scores = cut(X)
        score = scores[:, label]
    tokens, gradient = tokens.numpy(), tape.gradient(score, tokens).numpy()
    if others is not None:
        shape = (len(X), *grid, -1)
        tokens, gradient = (one[:, others:].reshape(shape) for one in (tokens, gradient))
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    cam = np.maximum((weights * tokens).sum(axis=-1, keepdims=True), 0)
    return tf.image.resize(cam, X.shape[1:3])[..., 0].numpy()


@pytest.mark.parametrize("pool", ["mean", "class token"])
def test_grad_cam_looks_at_the_cells_tokens_before_the_last_attention(pool):
    settings = {"weighting": "grad-cam", "batch_size": 2}
    model = transformer(pool, blocks=2, height=32, width=24)
    X = np.random.default_rng(0).random((3, 32, 24, 1), np.float32)
    for layer in ("norm1",) if pool == "mean" else ("norm1", "norm0"):
        expected = cam_by_hand(model, layer, X, 1, 3, (8, 6))
        assert expected.max() > 0
        maps = grad_cam(X, 1, model, layer=None if layer == "norm1" else layer, **settings)
        np.testing.assert_allclose(maps, expected, atol=1e-4 * expected.max())
    if pool == "class token":
        with pytest.raises(ValueError, match=r"'final' with .* at the image's cells: name another"):
            grad_cam(X, 1, model, layer="final")


def test_a_convolution_after_attention_is_looked_at():
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 1))
    tokens = keras.layers.Reshape((64, 8))(keras.layers.Conv2D(8, 4, strides=4)(image))
    tokens = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens)
    features = keras.layers.Conv2D(4, 3, name="last")(keras.layers.Reshape((8, 8, 8))(tokens))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(features))
    X = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    np.testing.assert_array_equal(grad_cam(X, 1, model), grad_cam(X, 1, model, layer="last"))


class Windows(keras.layers.Layer):
    """(N, 8, 8, C) as 4 windows each, (4 N, 16, C)."""

    def call(self, x):
        parts = tf.reshape(x, (-1, 2, 4, 2, 4, x.shape[-1]))
        return tf.reshape(tf.transpose(parts, (0, 1, 3, 2, 4, 5)), (-1, 16, x.shape[-1]))


def swin(laid_out):
    """Attention in windows, on tokens (N, 8, 8, C), or (N, 64, C) between its layers."""
    keras.utils.set_random_seed(1)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(12, 4, strides=4)(image)
    shape = (8, 8, 12) if laid_out else (64, 12)
    for block in range(2):
        x = keras.layers.Reshape(shape)(x)
        tokens = keras.layers.LayerNormalization(name=f"norm{block}")(x)
        windows = Windows()(keras.ops.reshape(tokens, (-1, 8, 8, 12)))
        windows = keras.layers.MultiHeadAttention(2, 6)(windows, windows)
        parts = keras.ops.reshape(windows, (-1, 2, 2, 4, 4, 12))
        together = keras.ops.transpose(parts, (0, 1, 3, 2, 4, 5))
        x = x + keras.ops.reshape(together, (-1, *shape))
        x = x + keras.layers.Dense(12)(keras.layers.LayerNormalization()(x))
    x = keras.ops.mean(keras.ops.reshape(x, (-1, 64, 12)), axis=1)
    return keras.Model(image, keras.layers.Dense(3)(x), name="swin")


@pytest.mark.parametrize("laid_out", [False, True])
def test_windows_of_attention_are_not_taken_for_images(laid_out):
    model, X = swin(laid_out), np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    others = None if laid_out else 0
    expected = cam_by_hand(model, "norm1", X, 2, others, (8, 8))
    assert expected.max() > 0
    maps = grad_cam(X, 2, model, weighting="grad-cam")
    np.testing.assert_allclose(maps, expected, atol=1e-4 * expected.max())
    name = next(one.name for one in model.layers[::-1] if isinstance(one, Windows))
    with pytest.raises(ValueError, match=f"no layer '{name}' with .* at the image's cells"):
        grad_cam(X, 2, model, layer=name)
    with pytest.raises(ValueError, match="model 'swin' attends to windows"):
        attention_rollout(X, model)


@pytest.mark.parametrize("pool", ["mean", "class token"])
def test_rollout_is_the_papers_product(pool):
    others = 1 if pool == "class token" else 0
    model = transformer(pool, blocks=2, others=others, height=32, width=24)
    X = np.random.default_rng(0).random((3, 32, 24, 1), np.float32)
    cut = keras.Model(model.inputs, [model.get_layer(f"norm{block}").output for block in (0, 1)])
    rolled = np.eye(48 + others)
    for block, tokens in enumerate(cut(X)):
        attend = model.get_layer(f"attention{block}")
        _, scores = attend(tokens, tokens, return_attention_scores=True)  # (N, heads, T, T)
        rolled = (scores.numpy().mean(axis=1) / 2 + np.eye(48 + others) / 2) @ rolled
    of_cells = rolled[:, 0, 1:] if others else rolled.mean(axis=1)
    expected = tf.image.resize(of_cells.reshape(3, 8, 6, 1), (32, 24))[..., 0]
    maps = attention_rollout(X, model, batch_size=2)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5)


def test_rollout_of_a_network_without_attention_is_refused():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers], name="convolutions")
    with pytest.raises(ValueError, match="'convolutions' computes no attention between all tokens"):
        attention_rollout(np.ones((1, 8, 8, 3)), model)


@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_keras_hubs_transformer_needs_no_reshape(pooling):
    hub = pytest.importorskip("keras_hub", reason="keras_hub is not installed")
    keras.utils.set_random_seed(0)
    backbone = hub.models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    model = hub.models.ViTImageClassifier(
        backbone=backbone, num_classes=3, pooling=pooling, preprocessor=None
    )
    X = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    maps, rolled = grad_cam(X, 1, model, weighting="layercam"), attention_rollout(X, model)
    encoder = backbone.get_layer("vit_encoder")
    block = encoder.encoder_layers[1]
    embedded = backbone.get_layer("vit_patching_and_embedding")(X)
    with tf.GradientTape() as tape:
        before = encoder.encoder_layers[0](embedded)
        tokens = block.layer_norm_1(before)
        tape.watch(tokens)
        x = before + block.mha(tokens, tokens)
        x = encoder.layer_norm(x + block.mlp(block.layer_norm_2(x)))
        score = model.output_dense(x[:, 0] if pooling == "token" else tf.reduce_mean(x, 1))[:, 1]
    gradient = tf.nn.relu(tape.gradient(score, tokens))
    cam = tf.nn.relu(tf.reduce_sum(gradient * tokens, axis=-1))[:, 1:]  # without the class token
    expected = tf.image.resize(tf.reshape(cam, (3, 4, 4, 1)), (32, 32))[..., 0]
    np.testing.assert_allclose(maps, expected, atol=1e-4 * np.max(expected))
    assert rolled.shape == maps.shape


@pytest.mark.parametrize(
    ("tokens", "sides", "grid"),
    [
        (197, (224, 224), (1, 14, 14)),  # ViT
        (198, (224, 224), (2, 14, 14)),  # DeiT, with a token of distillation
        (261, (224, 224), (5, 16, 16)),  # DINOv2 with four registers
        (49, (224, 224), (0, 7, 7)),  # Swin
        (61, (160, 96), (1, 10, 6)),
        (12, (30, 20), (0, 4, 3)),  # cells of 8 pixels, padded
        (1, (224, 224), None),
        (2, (224, 224), None),
    ],
)
def test_the_grid_is_told_from_the_number_of_tokens(tokens, sides, grid):
    assert token_grid(tokens, *sides) == grid

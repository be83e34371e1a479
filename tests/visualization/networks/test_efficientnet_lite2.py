import time

import h5py
import numpy as np
import pytest

from visualization import (
    EfficientNetLite2,
    SqueezeNet,
    class_names,
    class_visualization_update_step,
    compute_saliency_maps,
    create_class_visualization,
    grad_cam,
    image_gradients,
    integrated_gradients,
    load_weights,
    make_fooling_image,
    make_fooling_images,
    network_specification,
    paint_class,
    predict_scores,
    smoothed,
)
from visualization.backend import keras, tf
from visualization.faithfulness import cascading_randomization, compare_with_random
from visualization.files.bundle import BUNDLE
from visualization.files.bundle import EFFICIENTNET_LITE2 as FILE
from visualization.gradients import logits_and_gradients, score_and_margin, softmax
from visualization.networks.efficientnet_lite2 import InvertedResidual
from visualization.weight_files.architectures import EFFICIENTNET_LITE2
from visualization.weight_files.loading import read_weights

LITE2 = network_specification("efficientnet-lite2")
PIXELS = {"preprocess": LITE2.preprocess, "bounds": LITE2.bounds}


@pytest.fixture(scope="module")
def X(grace_hopper):
    return LITE2.to_input(grace_hopper[None])


def test_the_architecture_has_the_published_size_and_names(lite2):
    assert lite2.count_params() == 6_063_024
    assert lite2.input_shape == (None, 260, 260, 3)
    assert lite2.output_shape == (None, 1000)
    blocks = [f"block{n}" for n in range(1, 22)]
    assert [layer.name for layer in lite2.layers if layer.weights] == [
        *("stem", *blocks, "head", "classifier")
    ]
    assert lite2.get_layer("block21").output.shape == (None, 9, 9, 352)
    assert lite2.get_layer("head").output.shape == (None, 9, 9, 1280)


def test_the_table_of_weights_is_the_architecture(lite2):
    assert {v.path: tuple(v.shape) for v in lite2.weights} == EFFICIENTNET_LITE2.shapes


def test_it_sees_a_bow_tie_or_a_uniform_in_grace_hopper(lite2, X):
    first = predict_scores(lite2, X)[0].argmax()
    assert class_names()[first].startswith(("military uniform", "bow tie"))


@pytest.mark.parametrize(
    ("network", "top1", "top5"),
    [("squeezenet", 0.52, 0.80), ("efficientnet-lite2", 0.80, 0.92)],
)
def test_the_bundled_networks_are_as_good_as_the_table_says(network, top1, top5, request, imagenet):
    model = request.getfixturevalue({"efficientnet-lite2": "lite2"}.get(network, network))
    images, y = imagenet
    scores = predict_scores(model, network_specification(network).to_input(images))
    ranked = np.argsort(-scores, axis=1)
    assert np.mean(ranked[:, 0] == y) == top1
    assert np.mean((ranked[:, :5] == y[:, None]).any(axis=1)) == top5


def test_it_loads_in_less_than_a_second():
    EfficientNetLite2(weights=None)
    start = time.process_time()
    EfficientNetLite2()
    assert time.process_time() - start < 2  # 0.8 on an idle machine


def test_without_top_it_gives_the_features_of_any_image_size(lite2, X):
    features = EfficientNetLite2(include_top=False)
    inside = keras.Model(lite2.inputs, lite2.get_layer("head").output)
    np.testing.assert_allclose(features(X), inside(X), atol=1e-4)
    assert features(X[:, :100, :131]).shape == (1, 4, 5, 1280)


def test_dropout_works_in_training_only(lite2, X):
    np.testing.assert_array_equal(lite2(X), lite2(X, training=False))
    assert np.abs(lite2(X, training=True) - lite2(X)).max() > 0.1


def test_it_survives_saving_as_keras_do(tmp_path, lite2, X):
    lite2.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(restored.get_layer("block2"), InvertedResidual)
    np.testing.assert_allclose(restored(X), lite2(X), atol=1e-4)


def test_it_computes_under_a_mixed_precision_policy(lite2, X):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = EfficientNetLite2()
    finally:
        keras.config.set_dtype_policy("float32")
    scores = model(X)
    assert scores.dtype == tf.float32
    assert np.argmax(scores) == np.argmax(lite2(X))


# ---- weight files


def test_the_bundle_is_a_weight_file_that_keras_itself_loads(lite2):
    model = EfficientNetLite2(weights=None)
    model.load_weights(BUNDLE / FILE)
    for ours, theirs in zip(lite2.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_bundle_holds_kernels_in_half_precision():
    with h5py.File(BUNDLE / FILE) as file:
        assert file["layers/dense/vars/0"].dtype == np.float16
        assert file["layers/dense/vars/1"].dtype == np.float32


@pytest.fixture(params=[".weights.h5", ".npz", ".safetensors"])
def saved(request, lite2, tmp_path):
    path = tmp_path / f"lite2{request.param}"
    arrays = {variable.path: variable.numpy() for variable in lite2.weights}
    if request.param == ".weights.h5":
        lite2.save_weights(path)
    elif request.param == ".npz":
        np.savez(path, **arrays)
    else:
        half = {name: array.astype(np.float16) for name, array in arrays.items()}
        pytest.importorskip("safetensors.numpy").save_file(half, path)
    return path


def test_its_own_files_are_read_and_squeezenet_refuses_them(saved, lite2):
    model = EfficientNetLite2(weights=None)
    load_weights(model, saved)
    rtol = 2**-11 if saved.suffix == ".safetensors" else 0  # biases in half precision
    for ours, theirs in zip(model.weights, lite2.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=2**-24)
    load_weights(EfficientNetLite2(weights=None, include_top=False), saved)
    with pytest.raises(ValueError, match=r"is of another network, EfficientNet-Lite2: load it"):
        SqueezeNet(weights=saved)


def test_squeezenets_files_are_refused_with_the_name_of_their_network(tmp_path):
    keras3 = BUNDLE / "squeezenet_v1_1.weights.h5"
    with pytest.raises(ValueError, match=r"is of another network, SqueezeNet 1\.1: load it into"):
        EfficientNetLite2(weights=keras3)
    np.savez(tmp_path / "else.npz", conv=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"is of another network: none of its tensors \(conv\)"):
        EfficientNetLite2(weights=tmp_path / "else.npz")


def test_a_file_that_lacks_a_weight_changes_nothing(lite2, tmp_path):
    arrays = {variable.path: variable.numpy() for variable in lite2.weights}
    del arrays["block3/expand/bias"]
    np.savez(tmp_path / "a.npz", **arrays)
    model = EfficientNetLite2(weights=None)
    before = model.get_layer("stem").kernel.numpy()
    with pytest.raises(ValueError, match=r"1 missing \(block3/expand/bias\)"):
        load_weights(model, tmp_path / "a.npz")
    np.testing.assert_array_equal(model.get_layer("stem").kernel, before)


def test_it_has_one_input_convention_only():
    assert read_weights("imagenet", EFFICIENTNET_LITE2).convention == "efficientnet-lite"
    with pytest.raises(ValueError, match="expected one of efficientnet-lite"):
        read_weights("imagenet", EFFICIENTNET_LITE2, convention="caffe")


# ---- every function of this package


@pytest.fixture(scope="module")
def in_float64(lite2):
    """The same network in float64."""

    def convert(layer):
        config = layer.get_config()
        return type(layer).from_config(config | {"dtype": "float64"})

    image = keras.Input((260, 260, 3), dtype="float64", name="image")
    model = keras.models.clone_model(lite2, input_tensors=image, clone_function=convert)
    for variable, value in zip(model.weights, lite2.weights, strict=True):
        variable.assign(tf.cast(value, tf.float64))
    return model


def along(direction, X, model, objective):
    """The slope of objective(logits) along a direction, by central differences in float64."""
    step = 1e-9
    both = np.concatenate([X + step * direction, X - step * direction])
    up, down = objective(tf.constant(predict_scores(model, both))).numpy()
    return (up - down) / (2 * step)


def test_its_gradient_is_that_of_central_differences(in_float64, X):
    X = X.astype(np.float64)
    gradient, scores = image_gradients(X, 457, in_float64)
    assert gradient.dtype == scores.dtype == np.float64
    generator = np.random.default_rng(0)
    for _ in range(3):
        direction = generator.standard_normal(X.shape)
        slope = along(direction, X, in_float64, lambda scores: scores[:, 457])
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-4)


def test_what_fooling_climbs_has_the_gradient_of_central_differences(in_float64, X):
    X = X.astype(np.float64)
    objective = score_and_margin(tf.constant([6]))
    run = tf.function(lambda images: logits_and_gradients(in_float64, images, objective))
    gradient = run(X)[1].numpy()
    direction = np.random.default_rng(1).standard_normal(X.shape)
    slope = along(direction, X, in_float64, score_and_margin(tf.constant([6, 6])))
    assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-4)


def test_one_step_of_the_courses_drawing_is_that_of_central_differences(in_float64, X):
    X = X.astype(np.float64)
    step = class_visualization_update_step(X, in_float64, 76, l2_reg=0.01, learning_rate=2.0) - X
    direction = np.random.default_rng(2).standard_normal(X.shape)
    slope = along(direction, X, in_float64, lambda scores: scores[:, 76])
    expected = 2.0 * (slope - 2 * 0.01 * np.sum(X * direction))
    assert np.sum(step * direction) == pytest.approx(expected, rel=1e-4)


def test_grad_cam_is_the_classifiers_weights_on_the_heads_channels(in_float64, X):
    """Between the last convolution and a logit there is only a mean and a matrix product."""
    X = X.astype(np.float64)
    head = keras.Model(in_float64.inputs, in_float64.get_layer("head").output)(X)  # (1, 9, 9, 1280)
    kernel = in_float64.get_layer("classifier").kernel.numpy()  # (1280, 1000)
    small = np.maximum(head.numpy() @ kernel[:, 457:458] / 81, 0)
    expected = tf.image.resize(small, (260, 260))[..., 0].numpy()
    np.testing.assert_allclose(
        grad_cam(X, 457, in_float64), expected, rtol=1e-5, atol=1e-5 * expected.max()
    )


def test_float32_gradients_are_those_of_float64(lite2, in_float64, X):
    exact, _ = image_gradients(X.astype(np.float64), 457, in_float64)
    ours, _ = image_gradients(X, 457, lite2)
    assert np.abs(ours - exact).mean() < 1e-3 * np.abs(exact).mean()


@pytest.mark.slow
def test_a_batch_gives_what_its_images_give_one_by_one(in_float64, X):
    both = np.concatenate([X, X[:, :, ::-1]]).astype(np.float64)
    for method in (compute_saliency_maps, grad_cam):
        maps = method(both, [457, 6], in_float64)
        singly = [method(both[i : i + 1], y, in_float64)[0] for i, y in enumerate((457, 6))]
        np.testing.assert_allclose(maps, singly, rtol=1e-9, atol=1e-12)


def test_maps_have_the_images_shape(lite2, X):
    for method in (
        *(compute_saliency_maps, grad_cam),
        smoothed(compute_saliency_maps, samples=2),
        lambda *arguments: integrated_gradients(*arguments, steps=4).maps,
    ):
        maps = method(X, 457, lite2)
        assert maps.shape == (1, 260, 260)
        assert np.isfinite(maps).all()
        assert np.ptp(maps) > 0


def test_integrated_gradients_know_how_far_they_are_from_the_score(lite2, X):
    result = integrated_gradients(X, 457, lite2, steps=20, batch_size=5)
    grey, photograph = predict_scores(lite2, np.concatenate([0 * X, X]))[:, 457]
    missing = result.maps.sum() - (photograph - grey)
    assert result.convergence_delta[0] == pytest.approx(missing, rel=1e-2, abs=1e-3)


def test_maps_are_tested_as_any_others(lite2, X):
    maps = {"saliency": compute_saliency_maps(X, 457, lite2)}
    assert set(compare_with_random(X, 457, lite2, maps, steps=4)) == {"saliency", "random"}


@pytest.mark.slow
def test_its_layers_become_noise_one_by_one(lite2, X):
    before = lite2(X)
    found = cascading_randomization(X, 457, lite2, compute_saliency_maps)
    assert len(found) == 65
    assert abs(list(found.values())[-1]) < 0.5
    np.testing.assert_array_equal(lite2(X), before)


@pytest.mark.slow
def test_classes_in_a_batch_are_drawn_as_alone(lite2):
    settings = {"num_iterations": 1, "image_shape": (260, 260, 3), **PIXELS}
    together = paint_class([76, 366], lite2, **settings)
    alone = paint_class(366, lite2, **settings)
    assert np.abs(alone[0] - together[1]).mean() < 1e-3
    assert np.abs(together[0] - together[1]).mean() > 1e-3


def test_it_is_fooled(lite2, grace_hopper):
    images = np.stack([grace_hopper, grace_hopper[:, ::-1]])
    images = np.pad(images, [(0, 0), (18, 18), (18, 18), (0, 0)])  # 260 by 260
    result = make_fooling_images(images, 6, lite2, **PIXELS)
    assert result.success.all()
    again = softmax(predict_scores(lite2, LITE2.to_input(result.images)))
    assert again.argmax(axis=1).tolist() == [6, 6]
    assert result.linf.max() < 64


def test_the_courses_loop_fools_it(lite2, X):
    fooling = make_fooling_image(X, 6, lite2)
    assert predict_scores(lite2, fooling)[0].argmax() == 6


@pytest.mark.slow
def test_it_draws_a_class(lite2):
    shape = {"image_shape": (260, 260, 3), **PIXELS}
    drawn = paint_class(76, lite2, num_iterations=40, **shape)
    assert predict_scores(lite2, drawn)[0].argmax() == 76
    drawn = create_class_visualization(76, lite2, num_iterations=3, **shape)
    assert drawn.shape == (1, 260, 260, 3)


def test_pixels_that_are_not_preprocessed_are_refused(lite2, grace_hopper):
    pixels = np.zeros((1, 260, 260, 3), np.float32)
    pixels[:, :224, :224] = grace_hopper
    with pytest.raises(ValueError, match=r"like pixels of 0 to 255, but EfficientNetLite2 takes"):
        predict_scores(lite2, pixels)


def test_building_needs_no_trace_of_the_blocks_and_knows_their_shapes(monkeypatch):
    for strides, size in (1, (1, 7, 5, 4)), (2, (1, 4, 3, 4)):
        block = InvertedResidual(channels=4, kernel=3, strides=strides, expansion=6)
        assert tuple(block(np.zeros((1, 7, 5, 2), np.float32)).shape) == size
        assert block.compute_output_shape((1, 7, 5, 2)) == size
    monkeypatch.setattr(InvertedResidual, "call", lambda self, inputs: pytest.fail("traced"))
    model = EfficientNetLite2(weights=None, include_top=False)
    assert model.output_shape == (None, None, None, 1280)

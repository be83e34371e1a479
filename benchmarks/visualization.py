"""Classification, where a network looks, class visualisation and fooling, beside what else does it."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from visualization import (
    EfficientNetLite2,
    SqueezeNet,
    compute_saliency_maps,
    create_class_visualization,
    grad_cam,
    load_image,
    make_fooling_images,
    network_specification,
    predict_probabilities,
    preprocess_image,
    rise,
    smoothed,
)
from visualization.backend import keras, tf
from visualization.gradients import predict_scores

from .memory import growth, in_a_process
from .timing import INSTALL, Case

BATCH = 25
SAMPLES = 20
MASKS = 500
ITERATIONS = 100
STEPS = 8  # of fooling; Foolbox and PyTorch take half a second each
LABEL = 457  # bow tie
TARGET = 6
RATE = 1e-3  # too small to fool, so that every contender takes all its steps
FLOOR = "forward and backward alone"
FORWARD = "forward alone"
LOOP = "a loop over the masks"
PYTORCH = ("PyTorch, NCHW", "PyTorch, channels last")
CAPTUM = ("Captum, NCHW", "Captum, channels last")

Contender = Callable[[], Any]


def cases() -> Iterator[Case]:
    """Every line of the table. The floor is a compiled forward and backward pass as often as needed."""
    image = photograph()
    model = SqueezeNet()
    images = shifted(image)
    X = preprocess_image(images)
    y = np.full(BATCH, LABEL)
    peers = {name: importlib.util.find_spec(name) for name in ("torch", "captum", "tf_keras_vis")}
    peers["foolbox"] = importlib.util.find_spec("foolbox")
    missing = {name: INSTALL for name in peers if not peers[name]}

    def case(
        name: str, contenders: dict[str, Contender], promised: dict[str, float], work: int
    ) -> Case:
        promised = {peer: ratio for peer, ratio in promised.items() if peer in contenders}
        return Case(name, contenders, promised, per_call=work, missing=missing)

    saliency = {"tfcap": lambda: compute_saliency_maps(X, y, model), FLOOR: floor(model, X, 1)}
    smooth = {
        "tfcap": lambda: smoothed(compute_saliency_maps, samples=SAMPLES)(X[:1], LABEL, model),
        FLOOR: floor(model, X[:SAMPLES], 1),
    }
    cam = {"tfcap": lambda: grad_cam(X, y, model), FLOOR: floor(model, X, 1)}
    masked: dict[str, Contender] = {
        "tfcap": lambda: rise(X[:1], LABEL, model, masks=MASKS, batch_size=BATCH),
        FORWARD: lambda: [predict_probabilities(model, X) for _ in range(MASKS // BATCH)],
        LOOP: functools.partial(rise_in_a_loop, model, X[:1]),
    }
    drawing = {
        "tfcap": lambda: create_class_visualization(LABEL, model, num_iterations=ITERATIONS),
        FLOOR: floor(model, X[:1], ITERATIONS),
    }
    fooling = {
        "tfcap": lambda: make_fooling_images(
            images, TARGET, model, learning_rate=RATE, max_iterations=STEPS
        ),
        FLOOR: floor(model, X, STEPS),
    }
    if peers["tf_keras_vis"]:
        keras_vis = in_tf_keras_vis(model, X)
        for case_of_peer, contender in zip(
            (saliency, smooth, drawing, cam), keras_vis, strict=True
        ):
            case_of_peer["tf-keras-vis"] = contender
    if peers["torch"]:
        for name, loops in in_pytorch(X).items():
            drawing[name], fooling[name] = loops
    if peers["captum"]:
        for name, methods in in_captum(X, "squeezenet").items():
            saliency[name], smooth[name] = methods
        cam |= grad_cam_in_captum(X)
    if peers["foolbox"]:
        fooling["Foolbox L2PGD"] = in_foolbox(images, "L2PGD", STEPS, 2550)

    yield case(
        f"saliency, one of a batch of {BATCH}",
        saliency,
        {"tf-keras-vis": 3, **dict.fromkeys(CAPTUM, 3)},
        BATCH,
    )
    yield case(
        f"SmoothGrad, {SAMPLES} samples, one image",
        smooth,
        {"tf-keras-vis": 10, **dict.fromkeys(CAPTUM, 2)},
        1,
    )
    yield case(
        f"Grad-CAM, one of a batch of {BATCH}",
        cam,
        {"tf-keras-vis": 2.5, **dict.fromkeys(CAPTUM, 1.1)},
        BATCH,
    )
    yield case(f"RISE of {MASKS} masks, one image", masked, {LOOP: 2}, 1)
    yield case(
        f"class visualisation, {ITERATIONS} iterations",
        drawing,
        {"tf-keras-vis": 8, **dict.fromkeys(PYTORCH, 1.6)},
        1,
    )
    yield case(
        f"fooling, an iteration of one of a batch of {BATCH}",
        fooling,
        {"Foolbox L2PGD": 2.5, **dict.fromkeys(PYTORCH, 1.8)},
        BATCH * STEPS,
    )
    X = network_specification("efficientnet-lite2").to_input(shifted(photograph(260)))
    model = EfficientNetLite2()
    saliency = {"tfcap": lambda: compute_saliency_maps(X, y, model), FLOOR: floor(model, X, 1)}
    scores = {"tfcap": lambda: predict_scores(model, X)}
    if peers["captum"]:
        for name, (one_by_one, _) in in_captum(X, "efficientnet-lite2").items():
            saliency[name] = one_by_one
    if peers["torch"]:
        scores |= forward_in_pytorch(X)
    name = f"EfficientNet-Lite2, one of a batch of {BATCH}"
    yield case(f"saliency, {name}", saliency, dict.fromkeys(CAPTUM, 1), BATCH)
    yield case(f"classification, {name}", scores, dict.fromkeys(PYTORCH, 1), BATCH)
    memory = {f"{count} samples": in_a_process(__name__, str(count)) for count in (500, 50)}
    yield Case(
        "SmoothGrad, peak memory: 500 samples over 50",
        memory,
        {"50 samples": 1 / 1.2},
        rounds=1,
        warmups=0,
        unit="MB",
    )


def photograph(size: int = 224) -> np.ndarray:
    return load_image(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"), size)


def shifted(image: np.ndarray) -> np.ndarray:
    """A batch of images of one."""
    return np.stack([np.roll(image, 4 * n, axis=1) for n in range(BATCH)])


def floor(model: keras.Model, X: np.ndarray, times: int) -> Contender:
    """The network's forward and backward pass, compiled as one graph, and nothing else."""

    @tf.function
    def passes(x: Any) -> Any:
        for _ in tf.range(times):  # each waits for the one before, as in a loop that climbs
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                score = model(x, training=False)[:, LABEL]
            x += 1e-9 * tape.gradient(score, x)
        return x

    return lambda: passes(tf.constant(X)).numpy()


def in_tf_keras_vis(model: keras.Model, X: np.ndarray) -> tuple[Contender, ...]:
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.scores import CategoricalScore

    saliency = Saliency(model, clone=False)
    drawing = ActivationMaximization(model, clone=False)
    cam = Gradcam(model, clone=False)
    many, one = CategoricalScore([LABEL] * len(X)), CategoricalScore([LABEL])
    return (
        lambda: saliency(many, X, normalize_map=False),
        lambda: saliency(one, X[:1], smooth_samples=SAMPLES, smooth_noise=0.15),
        lambda: np.asarray(drawing(one, steps=ITERATIONS)),
        lambda: cam(many, X, penultimate_layer="conv10", normalize_cam=False),
    )


def in_captum(X: np.ndarray, network: str) -> dict[str, tuple[Contender, Contender]]:
    import torch
    from captum.attr import NoiseTunnel, Saliency

    from .pytorch import layouts

    made: dict[str, tuple[Contender, Contender]] = {}
    for name, (model, layout) in zip(CAPTUM, layouts(network).values(), strict=True):
        saliency = Saliency(model)
        tunnel = NoiseTunnel(saliency)

        def inputs(count: int, layout: Any = layout) -> Any:
            return torch.from_numpy(X[:count]).permute(0, 3, 1, 2).contiguous(memory_format=layout)

        def one_by_one(saliency: Any = saliency, inputs: Any = inputs) -> np.ndarray:
            x = inputs(BATCH).requires_grad_()
            return saliency.attribute(x, target=LABEL).amax(1).numpy()

        def smooth(tunnel: Any = tunnel, inputs: Any = inputs) -> np.ndarray:
            x = inputs(1)
            settings = {"nt_type": "smoothgrad", "nt_samples": SAMPLES}
            return tunnel.attribute(x, stdevs=0.6, target=LABEL, **settings).amax(1).numpy()

        made[name] = one_by_one, smooth
    return made


def grad_cam_in_captum(X: np.ndarray) -> dict[str, Contender]:
    import torch
    from captum.attr import LayerAttribution, LayerGradCam

    from .pytorch import layouts

    def cam(network: Any, layout: Any) -> np.ndarray:
        x = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        conv10 = LayerGradCam(network, network[13])
        maps = conv10.attribute(x.requires_grad_(), target=LABEL, relu_attributions=True)
        return LayerAttribution.interpolate(maps, X.shape[1:3], "bilinear").detach().numpy()

    peers = layouts("squeezenet").values()
    return {name: functools.partial(cam, *peer) for name, peer in zip(CAPTUM, peers, strict=True)}


def rise_in_a_loop(model: keras.Model, X: np.ndarray) -> np.ndarray:
    """RISE as one writes it: a mask is enlarged and cut out, and the model asked, one after another.

    xplique 2.0 has RISE too, but cannot be installed beside TensorFlow 2.21.
    """
    random = np.random.default_rng(0)
    _, height, width, _ = X.shape
    total = np.zeros((height, width))
    for _ in range(MASKS):
        grid = (random.random((7, 7, 1)) < 0.5).astype(np.float32)
        enlarged = tf.image.resize(grid, (height * 8 // 7, width * 8 // 7)).numpy()
        top, left = random.integers(0, height // 7), random.integers(0, width // 7)
        mask = enlarged[top : top + height, left : left + width]
        scores = tf.nn.softmax(model(X * mask, training=False))
        total += scores[0, LABEL].numpy() * mask[..., 0]
    return total / MASKS / 0.5


def in_pytorch(X: np.ndarray) -> dict[str, tuple[Contender, Contender]]:
    """The course's class visualisation, and its fooling loop for a batch, written in PyTorch."""
    import torch
    from torch.nn.functional import conv2d, pad

    from .pytorch import layouts

    taps = torch.exp(-0.5 * (torch.arange(-2, 3) / 0.5) ** 2)
    taps = (taps / taps.sum()).repeat(3, 1, 1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def gradient(network: Any, x: Any, label: int) -> Any:
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(network(x)[:, label].sum(), x)[0]

    def blur(x: Any) -> Any:
        x = conv2d(pad(x, (2, 2, 0, 0), "reflect"), taps, groups=3)
        return conv2d(pad(x, (0, 0, 2, 2), "reflect"), taps.transpose(2, 3), groups=3)

    def draw(network: Any, layout: Any) -> np.ndarray:
        generator = np.random.default_rng(0)
        x = torch.rand(1, 3, 224, 224).contiguous(memory_format=layout)
        x = (x - mean) / std
        for t in range(ITERATIONS):
            ox, oy = map(int, generator.integers(0, 16, 2))
            x = torch.roll(x, (oy, ox), (2, 3))
            x = x + 25 * (gradient(network, x, LABEL) - 2e-3 * x)
            x = torch.roll(x, (-oy, -ox), (2, 3))
            x = torch.minimum(torch.maximum(x, -mean / std), (1 - mean) / std)
            if t % 10 == 0:
                x = blur(x)
        return x.numpy()

    def fool(network: Any, layout: Any) -> np.ndarray:
        x = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        for _ in range(STEPS):
            x = x.detach().requires_grad_(True)
            scores = network(x)
            if (scores.argmax(1) == TARGET).all():
                break
            (g,) = torch.autograd.grad(scores[:, TARGET].sum(), x)
            x = x + RATE * g / g.flatten(1).norm(dim=1)[:, None, None, None]
        return x.detach().numpy()

    return {
        name: (functools.partial(draw, *peer), functools.partial(fool, *peer))
        for name, peer in layouts("squeezenet").items()
    }


def forward_in_pytorch(X: np.ndarray) -> dict[str, Contender]:
    import torch

    from .pytorch import layouts

    def scores(network: Any, layout: Any) -> np.ndarray:
        x = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        with torch.inference_mode():
            return network(x).numpy()

    peers = layouts("efficientnet-lite2")
    return {name: functools.partial(scores, *peer) for name, peer in peers.items()}


def in_foolbox(images: np.ndarray, attack: str, steps: int, epsilon: float) -> Contender:
    """One of Foolbox's attacks, towards the target; epsilon in levels of 0 to 255."""
    # Foolbox 3.3 still asks NumPy for what NumPy 2 has taken out.
    np.find_common_type = lambda arrays, scalars: np.result_type(*arrays, *scalars)  # type: ignore[attr-defined]
    import foolbox
    import torch

    from .pytorch import squeezenet

    preprocessing = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "axis": -3}
    network = foolbox.PyTorchModel(
        squeezenet(), bounds=(0, 1), preprocessing=preprocessing, device="cpu"
    )
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    goal = foolbox.criteria.TargetedMisclassification(torch.full((len(images),), TARGET))
    run = getattr(foolbox.attacks, attack)(steps=steps)
    return lambda: run(network, x, goal, epsilons=epsilon / 255)[1].numpy()


def main() -> None:
    samples = int(sys.argv[1])
    model, X = SqueezeNet(), preprocess_image(photograph()[None])
    print(growth(lambda: smoothed(compute_saliency_maps, samples=samples)(X, LABEL, model)))


if __name__ == "__main__":
    main()

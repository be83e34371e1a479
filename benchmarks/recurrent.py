"""The recurrent layers beside Keras's, PyTorch's and a NumPy loop: forward and all gradients.

"matrix products alone" runs only the products that the case needs, at the same sizes and in the same
dtype; of a masked case as many rows a step as count on average. Its ratio is the share of that floor
which this project reaches.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfcap import layers
from visualization.backend import keras, tf

from .memory import growth, in_a_process
from .own_process import as_users_have_it
from .timing import INSTALL, Case

try:
    import torch
except ImportError:
    torch = None

Contender = Callable[[], Any]
FLOOR = "matrix products alone"
LAYERS = {
    "LSTM": (layers.LSTM, keras.layers.LSTM),
    "RNN": (layers.RNN, keras.layers.SimpleRNN),
}
USERS = "keras, as its users have it"
LONG = 64, 256, 256, 512
PROMISED = (
    ("LSTM", (128, 16, 256, 512), {USERS: 1.3, "torch": 1.0, FLOOR: 0.85}),
    ("LSTM", LONG, {USERS: 1.3, "torch": 1.0, FLOOR: 0.85}),
    ("LSTM", (25, 16, 256, 512), {USERS: 1.5, "torch": 0.8}),
    ("LSTM", (32, 20, 64, 64), {USERS: 1.3, "torch": 0.6}),
    ("RNN", (128, 16, 256, 512), {USERS: 1.2, "torch": 1.3}),
)


def cases() -> Iterator[Case]:
    """Every line of the table; sizes are N, T, D, H."""
    for kind, sizes, at_least in PROMISED:
        contenders = {
            "tfcap": ours(kind, sizes),
            "keras": theirs(kind, sizes),
            USERS: as_users_have_it(f"{__package__}.recurrent:theirs", kind, sizes),
            FLOOR: products(kind, sizes),
        }
        if sizes != LONG:
            contenders["NumPy loop"] = in_numpy(kind, sizes)
        if torch is not None:
            contenders["torch"] = in_torch(kind, sizes)
        missing = {} if torch is not None else {"torch": INSTALL}
        yield case(f"{kind} {sizes}", contenders, at_least, missing, 5 if sizes == LONG else 7)

    sizes = 128, 16, 256, 512
    lengths = np.sort(np.random.default_rng(0).integers(8, 17, size=sizes[0]))[::-1]
    mask = tf.constant(np.arange(sizes[1]) < lengths[:, np.newaxis])
    masked = {
        "tfcap": ours("LSTM", sizes, mask),
        "keras": theirs("LSTM", sizes, mask),
        FLOOR: products("LSTM", (round(lengths.sum() / sizes[1]), *sizes[1:])),
    }
    yield case(f"LSTM {sizes}, sorted lengths of 8 to 16", masked)

    half = {
        "tfcap in bfloat16": ours("LSTM", sizes, dtype="bfloat16"),
        "tfcap in float32": ours("LSTM", sizes),
        FLOOR: products("LSTM", sizes, "bfloat16"),
    }
    yield case(f"LSTM {sizes} in bfloat16", half)

    names = ["tfcap", "keras"] + ["torch"] * (torch is not None)
    memory = {name: in_a_process(__name__, name) for name in names}
    least = {"keras": 1.0, "torch": 0.9}
    yield Case(f"LSTM {LONG}, peak memory", memory, least, rounds=1, warmups=0, unit="MB")


def case(
    name: str,
    contenders: Mapping[str, Contender],
    at_least: Mapping[str, float] | None = None,
    missing: Mapping[str, str] | None = None,
    rounds: int = 7,
) -> Case:
    """A case whose note tells how long the first call took, tracing and compiling included."""
    start = time.perf_counter()
    next(iter(contenders.values()))()
    note = f"first call {time.perf_counter() - start:.1f} s"
    return Case(name, contenders, at_least or {}, rounds=rounds, missing=missing or {}, note=note)


def data(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, T, D) and the gradient from above (N, T, H)."""
    n, t, d, h = sizes
    rng = np.random.default_rng(0)
    x, dh = rng.standard_normal((n, t, d)), rng.standard_normal((n, t, h))
    return x.astype("float32"), dh.astype("float32")


def ours(kind: str, sizes: tuple[int, ...], mask: Any = None, dtype: str = "float32") -> Contender:
    return in_keras(LAYERS[kind][0], sizes, mask, dtype)


def theirs(kind: str, sizes: tuple[int, ...], mask: Any = None) -> Contender:
    return in_keras(LAYERS[kind][1], sizes, mask, "float32")


def in_keras(make: Any, sizes: tuple[int, ...], mask: Any, dtype: str) -> Contender:
    """A Keras layer in a tf.function, as a training step has it."""
    n, t, d, h = sizes
    layer = make(h, return_sequences=True, dtype=dtype)
    layer.build((n, t, d))
    x, dh = (tf.cast(array, dtype) for array in data(sizes))
    weights = [weight.value for weight in layer.trainable_variables]

    @tf.function(autograph=False)
    def step(x: Any, dh: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, mask=mask)
        return y, tape.gradient(y, [x, *weights], dh)

    return lambda: [np.asarray(value) for value in tf.nest.flatten(step(x, dh))]


def in_torch(kind: str, sizes: tuple[int, ...]) -> Contender:
    _, _, d, h = sizes
    layer = getattr(torch.nn, kind)(d, h, batch_first=True)
    parameters = list(layer.parameters())
    x, dh = (torch.from_numpy(array) for array in data(sizes))
    x.requires_grad_()

    def step() -> list[np.ndarray]:
        y, _ = layer(x)
        gradients = torch.autograd.grad(y, [x, *parameters], dh)
        return [value.detach().numpy() for value in (y, *gradients)]

    return step


def in_numpy(kind: str, sizes: tuple[int, ...]) -> Contender:
    """The loop that one writes first: products step by step, gradients added up step by step."""
    _, _, d, h = sizes
    gates = 4 if kind == "LSTM" else 1
    rng = np.random.default_rng(1)
    x, dh = data(sizes)
    Wx = (rng.standard_normal((d, gates * h)) / np.sqrt(d)).astype("float32")
    Wh = (rng.standard_normal((h, gates * h)) / np.sqrt(h)).astype("float32")
    b = np.zeros(gates * h, "float32")
    forward, backward = (lstm_cell, lstm_cell_backward) if gates == 4 else (cell, cell_backward)

    def step() -> list[np.ndarray]:
        state = np.zeros_like(dh[:, 0]), np.zeros_like(dh[:, 0])
        out, kept = np.empty_like(dh), []
        for t in range(x.shape[1]):
            a = x[:, t] @ Wx + state[0] @ Wh + b
            previous = state
            state, values = forward(a, previous[1])
            kept.append((previous[0], values))
            out[:, t] = state[0]
        dx, dWx, dWh, db = (np.zeros_like(value) for value in (x, Wx, Wh, b))
        dprev = np.zeros_like(dh[:, 0]), np.zeros_like(dh[:, 0])
        for t in reversed(range(x.shape[1])):
            prev_h, values = kept[t]
            da, dc = backward(dh[:, t] + dprev[0], dprev[1], values)
            dx[:, t] = da @ Wx.T
            dprev = da @ Wh.T, dc
            dWx += x[:, t].T @ da
            dWh += prev_h.T @ da
            db += da.sum(0)
        return [out, dx, dWx, dWh, db]

    return step


def cell(a: np.ndarray, c: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
    h = np.tanh(a)
    return (h, c), h


def cell_backward(dh: np.ndarray, dc: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return dh * (1 - h**2), dc


def lstm_cell(a: np.ndarray, prev_c: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
    h = prev_c.shape[1]
    sigmoids = 1 / (1 + np.exp(-a[:, : 3 * h]))
    i, f, o = sigmoids[:, :h], sigmoids[:, h : 2 * h], sigmoids[:, 2 * h :]
    g = np.tanh(a[:, 3 * h :])
    c = f * prev_c + i * g
    tanh_c = np.tanh(c)
    return (o * tanh_c, c), (i, f, o, g, prev_c, tanh_c)


def lstm_cell_backward(
    dh: np.ndarray, dc: np.ndarray, values: Any
) -> tuple[np.ndarray, np.ndarray]:
    i, f, o, g, prev_c, tanh_c = values
    dc = dc + dh * o * (1 - tanh_c**2)
    parts = [dc * g * i * (1 - i), dc * prev_c * f * (1 - f)]
    parts += [dh * tanh_c * o * (1 - o), dc * i * (1 - g**2)]
    return np.concatenate(parts, axis=1), dc * f


def products(kind: str, sizes: tuple[int, ...], dtype: str = "float32") -> Contender:
    """The products of a forward and a backward pass and nothing else; XLA's where it is faster."""
    n, t, d, h = sizes
    width = h * (4 if kind == "LSTM" else 1)
    shapes = (n * t, d), (n * t, h), (n * t, width), (d, width), (h, width), (width, h)
    x, prev_h, da, Wx, Wh, Wh_transposed = (tf.random.normal(s, dtype=dtype) for s in shapes)

    def repeated(step: Any, W: Any) -> Any:
        """T products, each waiting for the one before: the next input holds one of its numbers."""

        def body(k: Any, x: Any) -> Any:
            return k + 1, step + 1e-9 * tf.reduce_max((x @ W)[:1, :1])

        return tf.while_loop(lambda k, _: k < t, body, (0, step), maximum_iterations=t)[1]

    @tf.function(jit_compile=dtype == "float32")
    def run() -> Any:
        through_time = repeated(prev_h[:n], Wh), repeated(da[:n], Wh_transposed)
        inputs = x @ Wx, tf.matmul(da, Wx, transpose_b=True)
        weights = tf.matmul(x, da, transpose_a=True), tf.matmul(prev_h, da, transpose_a=True)
        return through_time, inputs, weights

    return lambda: [value.numpy() for value in tf.nest.flatten(run())]


def main() -> None:
    (name,) = sys.argv[1:]
    step = {"tfcap": ours, "keras": theirs, "torch": in_torch}[name]("LSTM", LONG)
    print(growth(lambda: [step() for _ in range(3)]))


if __name__ == "__main__":
    main()

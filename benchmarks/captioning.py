"""The captioner beside the same in Keras and in PyTorch: a training step, and sentences for images."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfcap.model import CaptioningRNN
from visualization.backend import keras, tf

from .recurrent import has_bfloat16
from .timing import INSTALL, Case

try:
    import torch
except ImportError:
    torch = None

Contender = Callable[[], Any]
D, W, H, T = 512, 256, 512, 16  # features, word vector, hidden state, steps
IMAGES = 1000
PROMISED = (
    (128, 1004, {"keras": 1.25, "torch": 1.3}),
    (128, 10_000, {"keras": 1.2, "torch": 1.8}),
    (25, 1004, {"keras": 2.3, "torch": 1.6}),
)


def cases() -> Iterator[Case]:
    """Every line of the table; sizes are N and V."""
    for n, v, at_least in PROMISED:
        contenders = {"tfcap": ours(n, v), "keras": in_keras(n, v)}
        missing = {}
        if torch is None:
            missing["torch"] = INSTALL
        else:
            contenders["torch"] = in_torch(n, v)
        note = f"first call {first_call(contenders['tfcap']):.1f} s"
        name = f"training step, N={n}, V={v:,}"
        yield Case(name, contenders, at_least, missing=missing, note=note)

    half = {"bfloat16": ours(128, 1004, "mixed_bfloat16"), "float32": ours(128, 1004)}
    judged = {"float32": 1.2} if has_bfloat16() else {}
    yield Case("training step in mixed_bfloat16", half, judged)
    yield from sentences()
    yield growing_data()


def first_call(contender: Contender) -> float:
    start = time.perf_counter()
    contender()
    return time.perf_counter() - start


def vocabulary(v: int) -> dict[str, int]:
    words = ["<NULL>", "<START>", "<END>", "<UNK>", *(f"word{k}" for k in range(v - 4))]
    return {word: k for k, word in enumerate(words)}


def batch(n: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, D) and captions (n, T + 1), of 8 to 15 words, mostly 9 to 12, as COCO's are."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(8 + rng.poisson(2.5, n), T - 1)[:, np.newaxis]
    place = np.arange(T + 1)
    words = np.where(place <= lengths, rng.integers(4, v, (n, T + 1)), 0)
    words = np.where(place == lengths + 1, 2, words)
    words[:, 0] = 1
    return rng.standard_normal((n, D)).astype("float32"), words.astype("int32")


def captioner(v: int, dtype: str = "float32") -> CaptioningRNN:
    model = CaptioningRNN(vocabulary(v), D, W, H, dtype=dtype)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def ours(n: int, v: int, dtype: str = "float32") -> Contender:
    model = captioner(v, dtype)
    data = batch(n, v)
    return lambda: model.train_on_batch(*data)


def in_keras(n: int, v: int) -> Contender:
    """The captioner as one writes it with Keras's own layers."""
    features, words = keras.Input((D,)), keras.Input((None,), dtype="int32")
    h0 = keras.layers.Dense(H)(features)
    x = keras.layers.Embedding(v, W)(words)
    h = keras.layers.LSTM(H, return_sequences=True)(x, initial_state=[h0, keras.ops.zeros_like(h0)])
    model = keras.Model([features, words], keras.layers.Dense(v)(h))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    features, captions = batch(n, v)
    inputs, targets = [features, captions[:, :-1]], captions[:, 1:]
    return lambda: model.train_on_batch(inputs, targets)


def in_torch(n: int, v: int) -> Contender:
    project, embed = torch.nn.Linear(D, H), torch.nn.Embedding(v, W)
    recurrent, vocab = torch.nn.LSTM(W, H, batch_first=True), torch.nn.Linear(H, v)
    layers = torch.nn.ModuleList([project, embed, recurrent, vocab])
    optimizer = torch.optim.Adam(layers.parameters(), 1e-3)
    features, captions = (torch.from_numpy(array) for array in batch(n, v))
    words, targets = captions[:, :-1].long(), captions[:, 1:].long()

    def step() -> float:
        optimizer.zero_grad()
        h0 = project(features)[None]
        h, _ = recurrent(embed(words), (h0, torch.zeros_like(h0)))
        scores = vocab(h).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(scores, targets.flatten(), ignore_index=0)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def sentences() -> Iterator[Case]:
    """Sentences for many images, all of T words, as weights that were not trained say no <END>."""
    model = captioner(1004)
    model.parameters["b_vocab"].assign(np.where(np.arange(1004) == 2, -100.0, 0.0))
    features, captions = batch(IMAGES, 1004)

    @tf.function(autograph=False)
    def likeliest(some: Any, words: Any) -> Any:
        return tf.argmax(model((some, words)), axis=2, output_type=tf.int32)  # (N, T), as greedy's

    def greedy() -> np.ndarray:
        return model.sample(features, T)

    def forward_pass() -> np.ndarray:
        return likeliest(features, captions[:, :-1]).numpy()

    name = f"{IMAGES:,} images, {T} words each"
    beside: dict[str, Contender] = {"greedy": greedy, "teacher-forced forward pass": forward_pass}
    yield Case(f"greedy, {name}", beside, {"teacher-forced forward pass": 1 / 3})
    beside = {"beam 3": lambda: model.beam_search(features, 3, 1, T), "greedy": greedy}
    yield Case(f"beam 3, {name}", beside, {"greedy": 1 / 4})


def growing_data() -> Case:
    """Time an example takes in training over 1, 2, 4 and 8 times the data.

    Each call goes on for two steps with a training that never ends, and the captions are of one
    length, so that all calls are the same work.
    """
    from tfcap.data.batches import caption_dataset

    model = captioner(1004)
    features, _ = batch(8 * 2048, 1004)
    captions = np.random.default_rng(0).integers(4, 1004, (len(features), 13), dtype="int32")
    captions[:, 0], captions[:, -1] = 1, 2

    def training(times: int) -> Contender:
        count = 2048 * times
        data = {
            "train_captions": captions[:count],
            "train_image_idxs": np.arange(count, dtype=np.int32),
            "train_features": features,
        }
        batches = (pair for _ in itertools.count() for pair in caption_dataset(data, "train", 128))

        def run() -> float:
            start = time.perf_counter()
            for some, words in itertools.islice(batches, 2):
                model.train_on_batch(some, words)
            return 1e6 * (time.perf_counter() - start) / 256

        return run

    contenders = {f"{times} times the data": training(times) for times in (8, 4, 2, 1)}
    name = "training, microseconds an example"
    return Case(name, contenders, at_most=1.1, unit="us")

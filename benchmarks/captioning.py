"""The captioner beside the same in Keras and in PyTorch: a training step, and sentences for images."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfcap.data.batches import caption_dataset
from tfcap.model import CaptioningRNN
from visualization.backend import keras, tf

from .timing import INSTALL, Case

try:
    import torch
except ImportError:
    torch = None

Contender = Callable[[], Any]
D, W, H = 512, 256, 512  # features, word vector, hidden state
IMAGES, T, BEAMS = 128, 16, 3  # of the sentences
KERAS_LOOP = "keras, the loop of its examples"
EACH = 5  # captions of an image, as Flickr8k has
PROMISED = (
    (128, 1004, {"keras": 1.6, "torch": 1.2}),
    (128, 10_000, {"keras": 1.6, "torch": 1.2}),
    (25, 1004, {"keras": 1.4, "torch": 1.1}),
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
        name = f"training step, {n} captions, V={v:,}"
        yield Case(name, contenders, at_least, missing=missing, note=note)

    half = {"bfloat16": ours(128, 1004, "mixed_bfloat16"), "float32": ours(128, 1004)}
    yield Case("training step in mixed_bfloat16", half)
    yield from sentences()
    yield growing_data()


def first_call(contender: Contender) -> float:
    start = time.perf_counter()
    contender()
    return time.perf_counter() - start


def vocabulary(v: int) -> dict[str, int]:
    words = ["<NULL>", "<START>", "<END>", "<UNK>", *(f"word{k}" for k in range(v - 4))]
    return {word: k for k, word in enumerate(words)}


def captions_like_flickr8k(rng: np.random.Generator, count: int, v: int) -> np.ndarray:
    """int32 (count, 22): START, 4 to 20 words, 11.8 on average, and END."""
    length = 22
    words = np.clip(np.exp(rng.normal(2.42, 0.32, count)).round(), 4, 20)[:, np.newaxis]
    place = np.arange(length)
    captions = np.where(place <= words, rng.integers(4, v, (count, length)), 0)
    captions = np.where(place == words + 1, 2, captions)
    captions[:, 0] = 1
    return captions.astype(np.int32)


def data(n: int, v: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_captions": captions_like_flickr8k(rng, n, v),
        "train_image_idxs": np.arange(n, dtype=np.int32) // EACH,
        "train_features": rng.standard_normal((-(-n // EACH), D)).astype(np.float32),
    }


def captioner(v: int, dtype: str = "float32") -> CaptioningRNN:
    model = CaptioningRNN(vocabulary(v), D, W, H, dtype=dtype)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def ours(n: int, v: int, dtype: str = "float32") -> Contender:
    model = captioner(v, dtype)
    [(some, captions)] = caption_dataset(data(n, v), batch_size=n)
    return lambda: model.train_on_batch(some, captions)


def longest_first(n: int, v: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As peers take them: features (n, D), captions (n, L) cut to the longest, the steps of each."""
    some = data(n, v)
    captions = some["train_captions"]
    steps = np.count_nonzero(captions, axis=1) - 1
    order = np.argsort(-steps, kind="stable")
    features = some["train_features"][some["train_image_idxs"]]
    return features[order], captions[order, : steps.max() + 1], steps[order]


def in_keras(n: int, v: int) -> Contender:
    """The captioner as one writes it with Keras's own layers."""
    features, words = keras.Input((D,)), keras.Input((None,), dtype="int32")
    h0 = keras.layers.Dense(H)(features)
    x = keras.layers.Embedding(v, W)(words)
    h = keras.layers.LSTM(H, return_sequences=True)(x, initial_state=[h0, keras.ops.zeros_like(h0)])
    model = keras.Model([features, words], keras.layers.Dense(v)(h))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    features, captions, _ = longest_first(n, v)
    inputs, targets = [features, captions[:, :-1]], captions[:, 1:]
    return lambda: model.train_on_batch(inputs, targets)


def in_torch(n: int, v: int) -> Contender:
    """With packed sequences: no step and no score of padding."""
    project, embed = torch.nn.Linear(D, H), torch.nn.Embedding(v, W)
    recurrent, vocab = torch.nn.LSTM(W, H, batch_first=True), torch.nn.Linear(H, v)
    layers = torch.nn.ModuleList([project, embed, recurrent, vocab])
    optimizer = torch.optim.Adam(layers.parameters(), 1e-3)
    features, captions, steps = map(torch.from_numpy, longest_first(n, v))
    words, targets = captions[:, :-1].long(), captions[:, 1:].long()

    def pack(values: Any) -> Any:
        return torch.nn.utils.rnn.pack_padded_sequence(values, steps, batch_first=True)

    def step() -> float:
        optimizer.zero_grad()
        h0 = project(features)[None]
        h, _ = recurrent(pack(embed(words)), (h0, torch.zeros_like(h0)))
        loss = torch.nn.functional.cross_entropy(vocab(h.data), pack(targets).data)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def sentences() -> Iterator[Case]:
    """Sentences for many images, all of T words: no special token is ever likely."""
    model = captioner(1004)
    model.parameters["b_vocab"].assign(np.where(np.arange(1004) < 4, -100.0, 0.0))
    weights = {name: value.numpy() for name, value in model.parameters.items()}
    features = np.random.default_rng(0).standard_normal((IMAGES, D)).astype(np.float32)
    ours = {
        1: lambda: model.sample(features, T),
        BEAMS: lambda: model.beam_search(features, BEAMS, 1, T)[0][:, 0],
    }
    for beams, contender in ours.items():
        contenders: dict[str, Contender] = {
            "tfcap": contender,
            KERAS_LOOP: keras_loop(weights, features, beams, keeps_states=False),
            "keras, which keeps its states": keras_loop(
                weights, features, beams, keeps_states=True
            ),
        }
        missing = {}
        if torch is None:
            missing["torch"] = INSTALL
        else:
            contenders["torch"] = torch_loop(weights, features, beams)
        name = "greedy" if beams == 1 else f"beam {beams}"
        name = f"{name}, {IMAGES} images, {T} words each"
        yield Case(name, contenders, {KERAS_LOOP: 3, "torch": 1.5}, missing=missing)


def keras_loop(
    weights: dict[str, np.ndarray], features: np.ndarray, beams: int, *, keeps_states: bool
) -> Contender:
    """A search over Keras's layers, compiled; as in its examples it asks for whole sentences."""
    count, v = len(features), weights["b_vocab"].size
    project, embed = keras.layers.Dense(H), keras.layers.Embedding(v, W)
    recurrent, vocab = keras.layers.LSTM(H, return_sequences=True), keras.layers.Dense(v)
    for layer, width in (project, D), (embed, None), (recurrent, W), (vocab, H):
        layer.build((None, None, width))
    project.set_weights([weights["W_proj"], weights["b_proj"]])
    embed.set_weights([weights["W_embed"]])
    recurrent.set_weights([in_their_order(weights[name]) for name in ("Wx", "Wh", "b")])
    vocab.set_weights([weights["W_vocab"], weights["b_vocab"]])

    @tf.function(autograph=False)
    def search(features: Any) -> Any:
        def body(t: Any, word: Any, log_p: Any, words: Any, h: Any, c: Any) -> tuple[Any, ...]:
            if keeps_states:
                seen, [h, c] = recurrent.cell(embed(tf.reshape(word, [-1])), [h, c])
            else:
                before = tf.pad(tf.reshape(words, (-1, T))[:, :-1], [[0, 0], [1, 0]])
                before += tf.cast(tf.range(T) == 0, tf.int32)  # <START>
                seen = recurrent(embed(before), initial_state=[h, c])[:, t]
            gain = tf.nn.log_softmax(vocab(seen))  # (N * B, V)
            total = log_p[..., tf.newaxis] + tf.reshape(gain, (count, beams, v))
            log_p, chosen = tf.math.top_k(tf.reshape(total, (count, -1)), beams)
            beam, word = chosen // v, chosen % v  # (N, B)
            words = tf.gather(words, beam, batch_dims=1)
            words = tf.where(tf.range(T) == t, word[..., tf.newaxis], words)
            rows = tf.reshape(tf.range(count)[:, tf.newaxis] * beams + beam, [-1])
            return t + 1, word, log_p, words, tf.gather(h, rows), tf.gather(c, rows)

        h = tf.repeat(project(features), beams, axis=0)  # (N * B, H)
        first = tf.where(tf.range(beams) == 0, 0.0, -float("inf"))  # of B equal beginnings one
        word, log_p = tf.ones((count, beams), tf.int32), tf.tile(first[tf.newaxis], (count, 1))
        start = 0, word, log_p, tf.zeros((count, beams, T), tf.int32), h, tf.zeros_like(h)
        return tf.while_loop(lambda t, *_: t < T, body, start)[3][:, 0]

    return lambda: search(features).numpy()


def torch_loop(weights: dict[str, np.ndarray], features: np.ndarray, beams: int) -> Contender:
    """The same search in PyTorch, which keeps its states."""
    count, v = len(features), weights["b_vocab"].size
    project, embed = torch.nn.Linear(D, H), torch.nn.Embedding(v, W)
    cell, vocab = torch.nn.LSTMCell(W, H), torch.nn.Linear(H, v)
    for parameter, value in (
        (project.weight, weights["W_proj"].T),
        (project.bias, weights["b_proj"]),
        (embed.weight, weights["W_embed"]),
        (cell.weight_ih, in_their_order(weights["Wx"]).T),
        (cell.weight_hh, in_their_order(weights["Wh"]).T),
        (cell.bias_ih, in_their_order(weights["b"])),
        (cell.bias_hh, 0 * weights["b"]),
        (vocab.weight, weights["W_vocab"].T),
        (vocab.bias, weights["b_vocab"]),
    ):
        parameter.data.copy_(torch.from_numpy(value))
    x = torch.from_numpy(features)

    @torch.inference_mode()
    def search() -> np.ndarray:
        h = project(x).repeat_interleave(beams, 0)
        c, word = torch.zeros_like(h), torch.ones((count, beams), dtype=torch.long)
        log_p = torch.full((count, beams), -float("inf"))
        log_p[:, 0] = 0
        words = torch.zeros((count, beams, T), dtype=torch.long)
        for t in range(T):
            h, c = cell(embed(word.flatten()), (h, c))
            gain = torch.log_softmax(vocab(h), 1)
            total = (log_p[..., None] + gain.view(count, beams, v)).flatten(1)
            log_p, chosen = total.topk(beams)
            beam, word = chosen // v, chosen % v
            words = words.gather(1, beam[..., None].expand_as(words))
            words[..., t] = word
            rows = (torch.arange(count)[:, None] * beams + beam).flatten()
            h, c = h[rows], c[rows]
        return words[:, 0].numpy()

    return search


def in_their_order(weights: np.ndarray) -> np.ndarray:
    """Gates i, f, g, o; ours are i, f, o, g."""
    i, f, o, g = np.split(weights, 4, axis=-1)
    return np.concatenate([i, f, g, o], axis=-1)


def growing_data() -> Case:
    """Time an example takes in training over 1, 2, 4 and 8 times the data.

    Each call goes on for two steps with a training that never ends, and the captions are of one
    length, so that all calls are the same work.
    """
    model = captioner(1004)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((8 * 2048, D)).astype(np.float32)
    captions = rng.integers(4, 1004, (len(features), 13), dtype="int32")
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

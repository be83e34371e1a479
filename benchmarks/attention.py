"""A training step of the captioner with attention, beside the same in Keras and in PyTorch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfcap.data.batches import caption_dataset
from tfcap.model import CaptioningRNN
from visualization.backend import keras

from .captioning import captions_like_flickr8k, first_call, vocabulary
from .timing import INSTALL, Case

try:
    import torch
except ImportError:
    torch = None

Contender = Callable[[], Any]
# As in the bundled captioner: H numbers in a state, W in a word vector, D in each of the L cells.
IMAGES, EACH, L, D, W, H, HEADS, V = 25, 5, 81, 352, 256, 512, 8, 2535
PROMISED = {"keras": 1.3, "torch": 1.0}


def cases() -> Iterator[Case]:
    """25 photographs with their 5 captions, as Flickr8k's are."""
    contenders = {"tfcap": ours(), "keras": in_keras()}
    missing = {}
    if torch is None:
        missing["torch"] = INSTALL
    else:
        contenders["torch"] = in_torch()
    note = f"first call {first_call(contenders['tfcap']):.1f} s"
    name = f"attention, training step, {IMAGES} images, {IMAGES * EACH} captions"
    yield Case(name, contenders, PROMISED, missing=missing, note=note)


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_captions": captions_like_flickr8k(rng, IMAGES * EACH, V),
        "train_image_idxs": np.repeat(np.arange(IMAGES), EACH).astype(np.int32),
        "train_features": rng.standard_normal((IMAGES, L, D)).astype(np.float32),
    }


def ours() -> Contender:
    model = CaptioningRNN(vocabulary(V), D, W, H, "attention", heads=HEADS)
    model.compile(keras.optimizers.Adam(1e-3))
    [(some, captions)] = caption_dataset(data(), batch_size=IMAGES * EACH)
    return lambda: model.train_on_batch(some, captions)


def repeated() -> tuple[np.ndarray, np.ndarray]:
    """A row of cells for each caption, as the peers take them."""
    some = data()
    return some["train_features"][some["train_image_idxs"]], some["train_captions"]


class LookingCell(keras.layers.Layer):
    """The same step as one writes it for ``keras.layers.RNN``; keys and values are states."""

    def __init__(self) -> None:
        super().__init__()
        self.state_size = [H, H, (L, H), (L, H)]
        self.output_size = 2 * H
        self.query = keras.layers.Dense(H, use_bias=False)
        self.lstm = keras.layers.LSTMCell(H)

    def build(self, shape: Any) -> None:
        self.query.build((None, H))
        self.lstm.build((None, W + H))

    def call(self, x: Any, states: Any) -> tuple[Any, Any]:
        h, c, keys, values = states
        ops, d = keras.ops, H // HEADS
        q = ops.reshape(self.query(h), (-1, HEADS, d, 1))
        keys_heads = ops.reshape(keys, (-1, L, HEADS, d))
        values_heads = ops.reshape(values, (-1, L, HEADS, d))
        scores = ops.einsum("nhdo,nlhd->nhl", q, keys_heads) / d**0.5
        context = ops.einsum("nhl,nlhd->nhd", ops.softmax(scores), values_heads)
        context = ops.reshape(context, (-1, H))
        h, [h, c] = self.lstm(ops.concatenate([x, context], axis=1), [h, c])
        return ops.concatenate([h, context], axis=1), [h, c, keys, values]


def in_keras() -> Contender:
    cells, words = keras.Input((L, D)), keras.Input((None,), dtype="int32")
    mean = keras.layers.GlobalAveragePooling1D()(cells)
    h0, c0 = (keras.layers.Dense(H, "tanh")(mean) for _ in range(2))
    keys = keras.layers.Dense(H, use_bias=False)(cells)
    values = keras.layers.Dense(H)(cells)
    x = keras.layers.Embedding(V, W)(words)
    state = [h0, c0, keys, values]
    seen = keras.layers.RNN(LookingCell(), return_sequences=True)(x, initial_state=state)
    out = keras.layers.Dense(H, "tanh")(keras.layers.Concatenate()([seen, x]))
    model = keras.Model([cells, words], keras.layers.Dense(V)(out))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    features, captions = repeated()
    inputs, targets = [features, captions[:, :-1]], captions[:, 1:]
    return lambda: model.train_on_batch(inputs, targets)


def in_torch() -> Contender:
    """Keys and values once an image; rows as they come, to the longest."""
    nn = torch.nn
    project, embed = nn.Linear(D, 2 * H), nn.Embedding(V, W)
    keys, values = nn.Linear(D, H, bias=False), nn.Linear(D, H)
    query, lstm = nn.Linear(H, H, bias=False), nn.LSTMCell(W + H, H)
    out, vocab = nn.Linear(2 * H + W, H), nn.Linear(H, V)
    layers = nn.ModuleList([project, embed, keys, values, query, lstm, out, vocab])
    optimizer = torch.optim.Adam(layers.parameters(), 1e-3)
    some = data()
    features = torch.from_numpy(some["train_features"])
    captions = torch.from_numpy(some["train_captions"]).long()
    words, targets = captions[:, :-1], captions[:, 1:]
    attend = nn.functional.scaled_dot_product_attention

    def by_head(x: Any, rows: int) -> Any:
        return x.view(IMAGES, rows, HEADS, H // HEADS).transpose(1, 2)

    def step() -> float:
        optimizer.zero_grad()
        states = torch.tanh(project(features.mean(1))).repeat_interleave(EACH, 0)
        h, c = states.chunk(2, 1)
        h, c = h.contiguous(), c.contiguous()
        keys_heads, values_heads = by_head(keys(features), L), by_head(values(features), L)
        x, seen = embed(words), []
        for t in range(words.shape[1]):
            q = by_head(query(h), EACH)
            context = attend(q, keys_heads, values_heads).transpose(1, 2).reshape(-1, H)
            h, c = lstm(torch.cat([x[:, t], context], 1), (h, c))
            seen.append(torch.cat([h, context, x[:, t]], 1))
        spoken = targets != 0
        scores = vocab(torch.tanh(out(torch.stack(seen, 1)[spoken])))
        loss = nn.functional.cross_entropy(scores, targets[spoken])
        loss.backward()
        optimizer.step()
        return loss.item()

    return step

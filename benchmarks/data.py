"""Caption data: opening a large set, the memory that reading takes, batches beside training steps.

The sets are synthetic, of COCO's sizes, and are written to the temporary folder.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tfcap.data.batches import caption_dataset
from tfcap.data.coco import load_coco_data, sample_coco_minibatch
from tfcap.data.vocabulary import END, NULL, SPECIAL, START
from tfcap.model import CaptioningRNN
from visualization.backend import keras

from .memory import growth, in_a_process
from .timing import Case

WORDS, T = 1004, 17
IMAGES, CAPTIONS = 82_783, 400_135  # of COCO's training split
BATCH = 128
SMALL, LARGE = 1_000, 1_000_000


def cases() -> Iterator[Case]:
    """Every line of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        small, large, coco, wide = (
            Path(scratch, name) for name in ("small", "large", "coco", "wide")
        )
        write_set(small, SMALL, 200)
        write_set(large, LARGE, 200_000)
        yield opening(small, large)
        yield opening_memory(small, large)

        write_set(coco, CAPTIONS, IMAGES, sparse=False)
        yield batches(coco)

        write_set(wide, CAPTIONS, IMAGES, width=4096)
        yield reading_memory(wide)


def opening(small: Path, large: Path) -> Case:
    """Seconds more for the large set; two are allowed."""

    def more() -> float:
        seconds = []
        for folder in (small, large):
            start = time.perf_counter()
            load_coco_data(folder)
            seconds.append(time.perf_counter() - start)
        return seconds[1] - seconds[0]

    name = f"opening {LARGE:,} captions, seconds more than for {SMALL:,}"
    contenders: dict[str, Callable[[], object]] = {"tfcap": more, "two seconds": lambda: 2.0}
    return Case(name, contenders, {"two seconds": 1.0}, unit="s")


def opening_memory(small: Path, large: Path) -> Case:
    """What opening takes; the reading of every caption in pieces is in it."""
    pieces = 32
    take = {folder: in_a_process(__name__, f"open {folder}") for folder in (small, large)}
    beside = f"{SMALL:,} captions, and {pieces} MB"
    contenders = {"tfcap": take[large], beside: lambda: take[small]() + pieces}
    name = f"opening {LARGE:,} captions, peak memory"
    return Case(name, contenders, {beside: 1.0}, rounds=1, warmups=0, unit="MB")


def batches(folder: Path) -> Case:
    """Batches from disk, beside training steps on one that is in memory."""
    data = load_coco_data(folder)
    stream = endless(data)
    model = CaptioningRNN(data["word_to_idx"], 512, 256, 512)
    model.compile(keras.optimizers.Adam(1e-3))
    some, captions = keras.tree.map_structure(lambda tensor: tensor.numpy(), next(stream))

    contenders: dict[str, Callable[[], object]] = {
        "caption_dataset": lambda: each(lambda: next(stream), 200),  # more than it prefetches
        "training step": lambda: each(lambda: model.train_on_batch(some, captions), 10),
    }
    name = f"{BATCH} captions from disk, features 512 wide"
    return Case(name, contenders, {"training step": 5.0}, unit="ms each")


def each(work: Callable[[], object], times: int) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return 1e3 * (time.perf_counter() - start) / times


def endless(data: dict[str, Any]) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from caption_dataset(data, "train", BATCH, epoch=epoch)
        epoch += 1


def reading_memory(folder: Path) -> Case:
    """What opening and 200 minibatches take, of features that are larger than many machines' memory."""
    size = IMAGES * 4096 * 4 / 2**20
    contenders = {"tfcap": in_a_process(__name__, f"read {folder}"), "the file": lambda: size}
    name = "reading features 4096 wide, peak memory"
    return Case(name, contenders, {"the file": 10.0}, rounds=1, warmups=0, unit="MB")


# ---- synthetic sets


def write_set(
    folder: Path, captions: int, images: int, width: int = 512, *, sparse: bool = True
) -> None:
    """A folder in the course's layout. Sparse features have a place in the file, none on the disk."""
    folder.mkdir()
    words = [*SPECIAL, *(f"word{number}" for number in range(len(SPECIAL), WORDS))]
    content = {"idx_to_word": words, "word_to_idx": {word: i for i, word in enumerate(words)}}
    (folder / "coco2014_vocab.json").write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    with h5py.File(folder / "coco2014_captions.h5", "w") as file:
        file["train_captions"] = caption_ids(rng, captions)
        file["train_image_idxs"] = rng.integers(0, images, captions).astype(np.int32)
    (folder / "train2014_urls.txt").write_text(
        "".join(f"http://images.example/{image}.jpg\n" for image in range(images))
    )
    path = folder / f"train2014_vgg16_fc7{'_pca' if width == 512 else ''}.h5"
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((images, width))
        h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, layout)
        if not sparse:
            file["features"][:] = rng.random((images, width), dtype=np.float32)


def caption_ids(rng: np.random.Generator, count: int) -> np.ndarray:
    """int32 (count, T), as long as COCO's: mostly 9 to 12 words."""
    lengths = np.minimum(8 + rng.poisson(2.5, count), T - 2)[:, np.newaxis]
    place = np.arange(T)
    ids = rng.integers(len(SPECIAL), WORDS, (count, T), dtype=np.int32)
    ids[place == lengths + 1] = END
    ids[place > lengths + 1] = NULL
    ids[:, 0] = START
    return ids


def main() -> None:
    job, _, folder = sys.argv[1].partition(" ")

    def read() -> None:
        data = load_coco_data(folder, pca_features=False)
        for seed in range(200):
            sample_coco_minibatch(data, BATCH, seed=seed)

    print(growth({"open": lambda: load_coco_data(folder), "read": read}[job]))


if __name__ == "__main__":
    main()

"""Small folders of captions and features, in the course's layout and in that of built ones."""

import json

import h5py
import numpy as np

from tfcap.data.vocabulary import END, NULL, SPECIAL, START

WORDS = [*SPECIAL, *(f"word{number}" for number in range(4, 40))]
T, IMAGES, WIDTH = 17, 30, 6


def captions(count, seed=0, length=T):
    """<START> words <END> <NULL>..., of 1 to T - 2 words, int32 (count, T)."""
    rng = np.random.default_rng(seed)
    words = np.clip(rng.normal(8, 3, count).round(), 1, length - 2).astype(int)[:, None]
    columns = np.arange(length)
    rows = rng.integers(3, len(WORDS), (count, length)).astype(np.int32)
    rows[columns == words + 1] = END
    rows[columns > words + 1] = NULL
    rows[:, 0] = START
    return rows


def split(count, seed=0, images=IMAGES, width=WIDTH):
    """What load_coco_data gives of a split, as arrays."""
    rng = np.random.default_rng(seed)
    return {
        "captions": captions(count, seed),
        "image_idxs": rng.integers(0, images, count).astype(np.int32),
        "features": rng.standard_normal((images, width)).astype(np.float32),
        "urls": np.array([f"http://images.example/{seed}/{image}.jpg" for image in range(images)]),
    }


def write_course(folder, train=200, val=20, pca=True, **options):
    """The course's coco_captioning; returns its arrays as load_coco_data names them."""
    names = {
        part: (f"{part}2014_vgg16_fc7{'_pca' * pca}.h5", f"{part}2014_urls.txt")
        for part in ("train", "val")
    }
    return _write(folder, "coco2014", {"train": train, "val": val}, names, **options)


def write_built(folder, name="photos", counts=None, cells=0, **options):
    """A folder as tfcap.datasets builds it; with `cells`, that many of each image."""
    counts = counts or {"train": 200, "val": 20}
    encoder = "squeezenet" + "_cells" * bool(cells)
    names = {part: (f"{name}_{part}_{encoder}.h5", f"{name}_{part}_images.txt") for part in counts}
    return _write(folder, name, counts, names, cells, **options)


def _write(folder, name, counts, names, cells=0, **storage):
    """`storage` goes to h5py, for chunked and compressed features."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"idx_to_word": WORDS, "word_to_idx": {word: i for i, word in enumerate(WORDS)}}
    (folder / f"{name}_vocab.json").write_text(json.dumps(content))
    data = {}
    with h5py.File(folder / f"{name}_captions.h5", "w") as file:
        for seed, (part, count) in enumerate(counts.items()):
            arrays = split(count, seed)
            features, lines = names[part]
            if cells:
                shape = (len(arrays["features"]), cells, WIDTH)
                drawn = np.random.default_rng(seed).standard_normal(shape)
                arrays["features"] = drawn.astype(np.float16)
            file[f"{part}_captions"] = arrays["captions"]
            file[f"{part}_image_idxs"] = arrays["image_idxs"]
            with h5py.File(folder / features, "w") as other:
                other.create_dataset("features", data=arrays["features"], **storage)
            (folder / lines).write_text("\n".join(arrays["urls"]) + "\n")
            data |= {f"{part}_{key}": value for key, value in arrays.items()}
    return data

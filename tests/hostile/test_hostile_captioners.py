"""Captioners' folders made to do harm, or harmed: each gets a sentence, no memory, no change."""

import hashlib
import json
import os
import random
import shutil
import tracemalloc

import h5py
import numpy as np
import pytest

from tfcap.model import CaptioningRNN
from visualization.backend import keras

WORDS = (
    "<NULL>",
    "<START>",
    "<END>",
    "<UNK>",
    "naïve",
    "犬",
    "🐈",
    "a b",
    "\x1b[2J",
    '"\\\n',
    "\ud800",
)
D = 5
MEMORY = 32 * 2**20  # bytes


def captioner(seed=0, words=WORDS, **options):
    keras.utils.set_random_seed(seed)
    made = CaptioningRNN({word: k for k, word in enumerate(words)}, D, 4, 6, **options)
    made.vocab.w.assign(5 * made.vocab.w)
    return made


def pictures():
    return np.random.default_rng(0).normal(size=(6, D)).astype("float32")


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner")
    captioner().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "captioner")


@pytest.fixture
def refused(folder):
    """What loading the folder says, after it was found that it took little memory."""

    def load():
        before = content(folder) if all(p.is_file() for p in folder.iterdir()) else None
        tracemalloc.start()
        try:
            with pytest.raises((ValueError, OSError)) as raised:
                CaptioningRNN.from_pretrained(folder)
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()
        text = str(raised.value)
        assert text.isprintable()
        assert len(text) < 600
        assert before is None or content(folder) == before
        return text

    return load


@pytest.fixture
def config(folder):
    """Changes the config: `config(key, value)`, with dots for what lies within."""

    def change(path, value):
        text = json.loads((folder / "config.json").read_text("utf-8"))
        *parts, last = path.split(".")
        part = text
        for name in parts:
            part = part[name]
        part[last] = value
        (folder / "config.json").write_text(json.dumps(text), "utf-8")

    return change


@pytest.fixture
def weights(folder, config):
    """The weights' file to change, whose sha256 is then made right again."""

    def change(edit):
        path = folder / "model.weights.h5"
        with h5py.File(path, "r+") as file:
            edit(file)
        config("weights.sha256", hashlib.sha256(path.read_bytes()).hexdigest())

    return change


# ------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize(
    ("cell", "dtype"),
    [("rnn", "float64"), ("rnn", "bfloat16"), ("lstm", "float32"), ("lstm", "mixed_float16")],
)
def test_a_captioner_comes_back_as_it_was(tmp_path, cell, dtype):
    made = captioner(
        cell_type=cell,
        dtype=dtype,
        dropout=0.3,
        label_smoothing=0.1,
        feature_mean=np.linspace(0, 1, D),
        feature_std=2.0,
        encoder="squeezenet",
    )
    made.decoding.update({"beam_size": 5, "length_penalty": 0.7, "block_trigrams": False})
    made.save_pretrained(tmp_path / "new" / "folder")
    again = CaptioningRNN.from_pretrained(str(tmp_path / "new" / "folder"))
    for name, variable in made.parameters.items():
        np.testing.assert_array_equal(again.parameters[name].numpy(), variable.numpy())
    assert {**again.get_config(), "name": ""} == {**made.get_config(), "name": ""}
    assert again.word_to_idx == made.word_to_idx
    assert again.decoding == made.decoding
    np.testing.assert_array_equal(again.sample(pictures(), 8), made.sample(pictures(), 8))
    for mine, expected in zip(
        again.beam_search(pictures()), made.beam_search(pictures()), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)


def test_a_later_captioner_takes_the_place_of_an_older_one(tmp_path):
    (tmp_path / "other.txt").write_text("stays")
    captioner(0).save_pretrained(tmp_path)
    later = captioner(1, WORDS[:6], cell_type="rnn")
    later.save_pretrained(tmp_path)
    assert sorted(content(tmp_path)) == ["config.json", "model.weights.h5", "other.txt"]
    again = CaptioningRNN.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.sample(pictures(), 8), later.sample(pictures(), 8))


@pytest.mark.parametrize("wrong", [{"temperature": 1.0}, {"beam_size": 0}, {"beam_size": 2.5}])
def test_what_could_not_be_read_again_is_not_written(folder, wrong):
    made, before = captioner(1), content(folder)
    made.decoding.update(wrong)
    with pytest.raises(ValueError, match=f"decoding has '{next(iter(wrong))}'.*expected beam_size"):
        made.save_pretrained(folder)
    assert content(folder) == before


def test_weights_that_are_nan_are_not_written(folder):
    made, before = captioner(1), content(folder)
    made.recurrent.cell.b.assign(np.full(24, np.nan))
    with pytest.raises(ValueError, match="cannot be saved: b holds NaN or infinity; go back"):
        made.save_pretrained(folder)
    assert content(folder) == before


def test_settings_may_be_numpy_s_numbers(tmp_path):
    half = np.float32(0.5)
    captioner(label_smoothing=half, dropout=half).save_pretrained(tmp_path)
    again = CaptioningRNN.from_pretrained(tmp_path)
    assert (again.label_smoothing, again.drop.rate) == (0.5, 0.5)


def failing_from(call, error, once=False):
    """`os.replace`, that raises the error in one of its calls and, unless once, in those after it."""
    replace, calls = os.replace, []

    def failing(*paths):
        calls.append(paths)
        if len(calls) == call or (len(calls) > call and not once):
            raise error
        replace(*paths)

    return failing


@pytest.mark.parametrize("call", [1, 2, 3])
def test_what_cannot_be_written_leaves_the_older_captioner(folder, tmp_path, monkeypatch, call):
    before = content(folder)
    for place, there in ((folder, before), (tmp_path / "new", {})):
        failing = failing_from(call, OSError(28, "No space left on device"), once=True)
        monkeypatch.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="cannot be written: No space left on device"):
            captioner(1).save_pretrained(place)
        monkeypatch.undo()
        assert content(place) == there


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_save_that_is_cut_off_leaves_a_whole_captioner(folder, monkeypatch, call, error):
    """Nothing tidies up after a kill, nor on a disk that fails for good."""
    older, later = CaptioningRNN.from_pretrained(folder), captioner(1, cell_type="rnn")
    for last in range(call, 4):  # again and again, each time later
        monkeypatch.setattr(os, "replace", failing_from(last, error))
        with pytest.raises((KeyboardInterrupt, OSError)):
            later.save_pretrained(folder)
        monkeypatch.undo()
        expected = later if last == 3 else older
        again = CaptioningRNN.from_pretrained(folder)
        np.testing.assert_array_equal(again.sample(pictures(), 8), expected.sample(pictures(), 8))
        assert again.cell_type == expected.cell_type
    final = captioner(2)
    final.save_pretrained(folder)
    again = CaptioningRNN.from_pretrained(folder)
    np.testing.assert_array_equal(again.sample(pictures(), 8), final.sample(pictures(), 8))
    assert sorted(content(folder)) == ["config.json", "model.weights.h5"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file: cannot be written: .*: name another folder"):
        captioner().save_pretrained(tmp_path / "file")
    for name in ("config.json", "model.weights.h5"):
        (tmp_path / "taken" / name).mkdir(parents=True)
        with pytest.raises(OSError, match=f"{name}: cannot be written: Is a directory"):
            captioner().save_pretrained(tmp_path / "taken")
        assert list((tmp_path / "taken").iterdir()) == [tmp_path / "taken" / name]
        (tmp_path / "taken" / name).rmdir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(folder):
    folder.chmod(0o500)
    try:
        with pytest.raises(OSError, match="cannot be written: Permission denied: name another"):
            captioner(1).save_pretrained(folder)
    finally:
        folder.chmod(0o700)


# ------------------------------------------------------------------------------------ missing, torn


def test_files_that_are_missing(refused, folder):
    (folder / "model.weights.h5").unlink()
    assert "it has no model.weights.h5: name a folder that" in refused()
    (folder / "config.json").unlink()
    assert "it has no config.json" in refused()


def test_a_folder_that_is_not_a_captioner_s(tmp_path, folder):
    for path in (tmp_path / "nothing", folder / "config.json"):
        with pytest.raises(OSError, match=path.name):
            CaptioningRNN.from_pretrained(path)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_files_that_are_folders(refused, folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert "is not a regular file" in refused()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_files_that_never_end(refused, folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "is not a regular file" in refused()
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert "is not a regular file" in refused()


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_files_of_many_gigabytes(folder, name):
    with (folder / name).open("ab") as file:
        file.truncate(2**36)
    with pytest.raises(ValueError, match=f"{name}:? has 68,719,476,736 bytes"):
        CaptioningRNN.from_pretrained(folder)


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "zeros"])
def test_damaged_weights(refused, folder, damage):
    path = folder / "model.weights.h5"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    changed = {"cut": whole[:-100], "emptied": b"", "flipped": flipped, "zeros": bytes(len(whole))}
    path.write_bytes(changed[damage])
    assert "is damaged or belongs to another captioner: its sha256 is not" in refused()


def test_weights_of_another_captioner(refused, folder, tmp_path):
    captioner(1, WORDS[:7]).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.weights.h5", folder)
    assert "belongs to another captioner" in refused()


# ---------------------------------------------------------------------------------------- the config


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Expecting value"),
        ("<html>", "Expecting value"),
        ('{"format": 1', "Expecting"),
        ("[" * 100_000, "recursion"),
        ('{"format": ' + "[" * 900 + "]" * 900 + "}", "its format is"),
        ("9" * 5000, "limit"),
        ("[]", "its format is None, expected 1"),
        ("{}", "its format is None, expected 1"),
        ('{"format": "1"}', "its format is '1', expected 1"),
        ('{"format": true}', "its format is True, expected 1"),
        ('{"format": 0}', "its format is 0, expected 1"),
        ('{"format": 2}', "has format 2, which a later tfcap wrote: update tfcap"),
        ('{"format": 1e400}', "its format is inf"),
        ('{"format": "' + "x" * 9999 + '"}', "its format is 'xxx"),
        ('{"format": "\\u001b[2J"}', "its format is"),
        ('{"format": 1}', "it has no 'architecture'"),
        ('{"format": 1, "architecture": []}', "it has no 'architecture'"),
    ],
)
def test_a_config_that_is_not_one(refused, folder, text, told):
    (folder / "config.json").write_text(text, "utf-8")
    message = refused()
    assert "config.json" in message
    assert told in message


def test_a_config_of_bytes(refused, folder):
    (folder / "config.json").write_bytes(random.Random(0).randbytes(1000))
    assert "config.json: is not UTF-8 text" in refused()


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("architecture.input_dim", "5", "input_dim is '5'"),
        ("architecture.input_dim", 5.0, "input_dim is 5.0"),
        ("architecture.input_dim", True, "input_dim is True"),
        ("architecture.input_dim", 0, "input_dim is 0"),
        ("architecture.hidden_dim", -6, "hidden_dim is -6"),
        ("architecture.hidden_dim", 10**9, "hidden_dim is 1000000000"),
        ("architecture.hidden_dim", 10**4000, "hidden_dim is 1000"),
        ("architecture.wordvec_dim", None, "wordvec_dim is None"),
        ("architecture.wordvec_dim", [4], "wordvec_dim is [4]"),
        ("architecture.cell_type", "gru", "cell_type 'gru'"),
        ("architecture.cell_type", ["lstm"], "cell_type is ['lstm']"),
        ("architecture.dtype", "float8", "dtype 'float8'"),
        ("architecture.dtype", "x" * 10**6, "dtype 'xxx"),
        ("architecture.dropout", 1.5, "dropout must be"),
        ("architecture.dropout", float("nan"), "dropout must be"),
        ("architecture.label_smoothing", "0", "label_smoothing is '0'"),
        ("architecture.feature_mean", [1.0, 2.0], "feature_mean has shape (2,)"),
        ("architecture.feature_mean", ["a"] * 5, "could not convert string to float"),
        ("architecture.feature_mean", [[[1.0]]], "feature_mean has shape"),
        ("architecture.feature_mean", [[1], [2, 3]], "inhomogeneous"),
        ("architecture.feature_std", 0.0, "feature_std must be above 0"),
        ("architecture.feature_std", float("inf"), "all finite"),
        ("architecture.encoder", 3, "encoder is 3"),
        ("architecture.word_to_idx", {}, "word_to_idx does not give every word a number"),
        ("architecture.word_to_idx", list(WORDS), "word_to_idx is ['<NULL>'"),
        ("architecture.word_to_idx.犬", "5", "word_to_idx does not give every word a number"),
        ("architecture.word_to_idx.犬", True, "word_to_idx does not give every word a number"),
        ("architecture.word_to_idx.犬", 6, "the same id 6"),
        ("architecture.word_to_idx.犬", 10**30, "expected 0 to"),
        ("architecture.word_to_idx.犬", -1, "expected 0 to"),
        ("architecture.extra", 1, "does not know extra"),
        ("architecture." + "x" * 5000, 1, "does not know xxx"),
        ("decoding", None, "it has no 'decoding'"),
        ("decoding.beam_size", 0, "decoding has 'beam_size': 0"),
        ("decoding.beam_size", 10**9, "decoding has 'beam_size': 1000000000"),
        ("decoding.beam_size", 2.5, "decoding has 'beam_size': 2.5"),
        ("decoding.max_length", True, "decoding has 'max_length': True"),
        ("decoding.length_penalty", float("nan"), "decoding has 'length_penalty': nan"),
        ("decoding.block_trigrams", 1, "decoding has 'block_trigrams': 1"),
        ("decoding.extra", 1, "decoding has 'extra'"),
        ("weights", {}, "no sha256 of the weights"),
        ("weights.sha256", "../" * 20 + "0000", "no sha256 of the weights"),
        ("weights.sha256", "0" * 64, "its sha256 is not the one in config.json"),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, str) else value[:40],
)
def test_a_config_with_a_wrong_value(refused, config, path, value, told):
    config(path, value)
    assert told in refused()


def test_an_architecture_that_needs_terabytes(refused, config):
    for size in ("input_dim", "wordvec_dim", "hidden_dim"):
        config(f"architecture.{size}", 10**6)
    assert "W_proj" in refused()


def test_another_architecture_with_the_same_weights(refused, config):
    config("architecture.cell_type", "rnn")
    assert "holds Wx as float32 (4, 24), but the architecture in config.json needs" in refused()


def test_a_vocabulary_of_another_size(refused, config):
    config("architecture.word_to_idx", {word: k for k, word in enumerate(WORDS[:8])})
    assert "holds W_embed as float32 (11, 4)" in refused()


# ----------------------------------------------------------------------------- weights that reach out


def test_weights_that_are_links(refused, weights, tmp_path):
    def out(file):
        del file["b"]
        file["b"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "b")

    weights(out)
    assert "has no dataset b, or only a link to it" in refused()

    def soft(file):
        del file["b"]
        file["b"] = h5py.SoftLink("/b_proj")

    weights(soft)
    assert "has no dataset b, or only a link to it" in refused()


def test_weights_that_lie_in_another_file(refused, weights, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret" * 20)

    def external(file):
        del file["b"]
        file.create_dataset("b", (24,), "float32", external=[(str(tmp_path / "secret"), 0, 96)])

    weights(external)
    assert "keeps b in another file, which is refused" in refused()


def test_weights_that_are_made_of_other_files(refused, weights, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["b"] = np.ones(24, "float32")

    def virtual(file):
        del file["b"]
        layout = h5py.VirtualLayout((24,), "float32")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "b", (24,))
        file.create_virtual_dataset("b", layout)

    weights(virtual)
    assert "keeps b in another file, which is refused" in refused()


def test_weights_that_were_never_written(refused, weights, config):
    """Contiguous, claimed to be large, and no bytes in the file: reading would fill memory."""
    config("architecture.input_dim", 10**6)
    config("architecture.hidden_dim", 10**5)

    def hole(file):
        del file["W_proj"]
        file.create_dataset("W_proj", (10**6, 10**5), "float32")

    weights(hole)
    assert "model.weights.h5 holds W_proj" in refused()


def test_weights_that_unpack_to_more(refused, weights, config):
    config("architecture.input_dim", 10**5)
    config("architecture.hidden_dim", 10**3)

    def packed(file):
        del file["W_proj"]
        options = {"chunks": (1000, 1000), "compression": "gzip", "fillvalue": 0.0}
        made = file.create_dataset("W_proj", (10**5, 10**3), "float32", **options)
        made[:1000] = 0

    weights(packed)
    assert "model.weights.h5 holds W_proj" in refused()


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.full(24, np.nan, "float32"), "holds NaN or infinity in b"),
        (np.full(24, 1e300), "holds NaN or infinity in b"),
        (np.zeros(24, int), "holds b as int64 (24,)"),
        (np.zeros(24, "S3"), "holds b as |S3 (24,)"),
        (np.zeros(24, [("x", "f4")]), "holds b as"),
        (np.zeros((24, 1), "float32"), "holds b as float32 (24, 1)"),
        (np.zeros((), "float32"), "holds b as float32 ()"),
    ],
    ids=["nan", "beyond float32", "int", "text", "compound", "another shape", "one number"],
)
def test_weights_of_the_wrong_kind(refused, weights, value, told):
    def other(file):
        del file["b"]
        file["b"] = value

    weights(other)
    assert told in refused()


def test_weights_that_are_missing_or_groups(refused, weights):
    weights(lambda file: file.move("b", "c"))
    assert "has no dataset b" in refused()
    weights(lambda file: file.create_group("b"))
    assert "b" in refused()


def test_damage_with_a_matching_sha256_is_refused_or_harmless(folder, config):
    """Bytes changed at random: a sentence, or numbers in the right places."""
    path = folder / "model.weights.h5"
    whole = path.read_bytes()
    chance = random.Random(0)
    told = []
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(whole))] = chance.randrange(256)
        path.write_bytes(damaged)
        config("weights.sha256", hashlib.sha256(damaged).hexdigest())
        try:
            made = CaptioningRNN.from_pretrained(folder)
        except (ValueError, OSError) as error:
            told.append(str(error))
        else:
            assert all(np.isfinite(value.numpy()).all() for value in made.parameters.values())
    assert len(told) > 5
    assert all(str(folder) in text for text in told)

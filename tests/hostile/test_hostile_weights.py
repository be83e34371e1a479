"""Weight files made to do harm. Each is named for what it tries, and gets a sentence and no memory."""

import io
import json
import os
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile

import h5py
import numpy as np
import pytest

from tests import forms
from tests.hostile import tables
from visualization.weight_files.loading import read_weights
from visualization.weight_files.tensorflow_checkpoint import open_checkpoint
from visualization.weight_files.tensorflow_index import read_index

BIAS = b"features/layer0/bias"
MEMORY = 96 * 2**20  # bytes; a whole SqueezeNet has 5 million


@pytest.fixture
def refused(tmp_path):
    """What loading a file says, after it was found that it took little memory and ran nothing."""

    def load(content_or_path):
        path = content_or_path
        if isinstance(path, bytes):
            path = tmp_path / "hostile"
            path.write_bytes(content_or_path)
        tracemalloc.start()
        try:
            with pytest.raises((ValueError, OSError)) as raised:
                read_weights(path)
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()
        assert not (tmp_path / "harm").exists()
        text = str(raised.value)
        assert text.isprintable()
        return text

    return load


class Harm:
    """Unpickled, it leaves a file behind."""

    def __init__(self, folder):
        self.path = str(folder / "harm")

    def __reduce__(self):
        return (os.mkdir, (self.path,))


# ---- code


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_that_runs_code(refused, tmp_path, protocol):
    text = refused(pickle.dumps({"conv1": Harm(tmp_path)}, protocol))
    assert "is a pickle, which could run any code when read, so it is never unpickled" in text


def test_a_pytorch_file_that_runs_code(refused, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harm(tmp_path)))
        archive.writestr("archive/data/0", b"0" * 64)
    assert "is a PyTorch file, a zipped pickle, which could run any code" in refused(
        buffer.getvalue()
    )


def test_an_npz_of_objects_that_run_code(refused, tmp_path, arrays):
    hostile = np.empty(64, dtype=object)
    hostile[:] = [Harm(tmp_path)] * 64
    np.savez(tmp_path / "a.npz", **(arrays | {"conv1/bias": hostile}))
    text = refused(tmp_path / "a.npz")
    assert "holds Python objects in conv1/bias.npy" in text
    assert "never unpickled" in text


# ---- HDF5 that reaches out


@pytest.fixture
def keras2(arrays, tmp_path):
    return forms.write_keras2(tmp_path / "hostile.h5", arrays)


def replaced(path, key, make):
    with h5py.File(path, "r+") as file:
        del file[key]
        make(file, key)
    return path


CONV1 = "conv1/conv1/bias:0"


def test_hdf5_external_link(refused, keras2, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.zeros(64, np.float32)
    link = h5py.ExternalLink(str(tmp_path / "secret.h5"), "secret")
    path = replaced(keras2, CONV1, lambda file, key: file.__setitem__(key, link))
    assert "conv1/conv1/bias:0, or only a link to it, which is refused" in refused(path)


def test_hdf5_soft_link(refused, keras2):
    link = h5py.SoftLink("/conv10/conv10/bias:0")
    path = replaced(keras2, CONV1, lambda file, key: file.__setitem__(key, link))
    assert "only a link to it, which is refused" in refused(path)


def test_hdf5_values_in_another_file(refused, keras2, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(256))
    where = [(str(tmp_path / "secret"), 0, 256)]
    path = replaced(
        keras2, CONV1, lambda file, key: file.create_dataset(key, (64,), "f4", external=where)
    )
    assert "keeps conv1/conv1/bias:0 in another file, which is refused" in refused(path)


def test_hdf5_virtual_dataset(refused, keras2, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.zeros(64, np.float32)
    layout = h5py.VirtualLayout((64,), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "secret", (64,))
    path = replaced(keras2, CONV1, lambda file, key: file.create_virtual_dataset(key, layout))
    assert "in another file, which is refused" in refused(path)


def test_hdf5_group_inside_itself(refused, keras2):
    with h5py.File(keras2, "r+") as file:
        file["conv1/again"] = file["conv1"]
        file["conv1/once more"] = file["conv1"]
    assert "groups within themselves" in refused(keras2)


def test_hdf5_array_larger_than_any_memory(refused, keras2):
    path = replaced(
        keras2, CONV1, lambda file, key: file.create_dataset(key, (2**50,), "f4", chunks=(64,))
    )
    assert "conv1/bias is float32 (1125899906842624,), not float32 (64,)" in refused(path)


def test_hdf5_chunks_larger_than_the_array(refused, keras2):
    def make(file, key):
        file.create_dataset(key, (64,), "f4", chunks=(2**29,), maxshape=(None,), compression="gzip")

    assert "in chunks of 2,147,483,648 bytes, which is refused" in refused(
        replaced(keras2, CONV1, make)
    )


@pytest.mark.parametrize("said", [np.zeros(9000, np.uint8), "[[[", '["caffe"]', '{"a": 1}'])
def test_hdf5_metadata_of_another_kind_says_nothing(keras2, arrays, said):
    with h5py.File(keras2, "r+") as file:
        file.attrs["visualization"] = said
    np.testing.assert_array_equal(read_weights(keras2).arrays["conv1/bias"], arrays["conv1/bias"])


# ---- .npz


def npz(members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(shape, data=b"", dtype="<f4"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def test_npz_bomb(refused):
    content = npz([("conv1/bias.npy", npy((2**25,), bytes(2**27)))])
    assert len(content) < 200_000
    assert "unpacks to 134,2" in refused(content)


def test_npz_header_that_claims_more_than_there_is(refused):
    text = refused(npz([("conv1/bias.npy", npy((2**60,), bytes(256)))]))
    assert "conv1/bias is float32 (1152921504606846976,), not float32 (64,)" in text


def test_npz_header_with_a_negative_or_overflowing_shape(refused):
    for shape in ((-64,), (2**40, 2**40), (-1, -64)):
        text = refused(npz([("conv1/bias.npy", npy(shape, bytes(256)))]))
        assert f"conv1/bias is float32 {shape}, not float32 (64,)" in text


def test_npz_header_that_is_no_python(refused):
    header = b"\x93NUMPY\x01\0\x02\0(\n"  # tokenize.TokenError in NumPy
    assert "is damaged" in refused(npz([("conv1/bias.npy", header)]))


def test_npz_header_that_is_deeply_nested(refused):
    shape = "(" * 3000 + ")" * 3000
    assert "is damaged" in refused(npz([("conv1/bias.npy", npy(shape, bytes(256)))]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_with_one_name_twice(refused):
    member = ("conv1/bias.npy", npy((64,), bytes(256)))
    assert "holds conv1/bias twice" in refused(npz([member, member]))


def test_npz_whose_directory_claims_smaller_files(refused):
    content = bytearray(npz([("conv1/bias.npy", npy((64,), bytes(256)))], zipfile.ZIP_STORED))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 80)
    assert "is damaged" in refused(bytes(content))


# ---- .safetensors


def safetensors(header, data=b""):
    pytest.importorskip("safetensors")
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_header_that_lies_about_sizes(refused):
    for shape, offsets in (([2**33], [0, 256]), ([64], [0, 2**40]), ([64], [-1, 255])):
        lie = {"conv1/bias": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
        assert "its header does not fit its" in refused(safetensors(lie, bytes(256)))


def test_safetensors_header_longer_than_the_file(refused):
    pytest.importorskip("safetensors")
    assert "its header does not fit" in refused(struct.pack("<Q", 99_000_000) + b"{}")
    assert "is of no known format" in refused(struct.pack("<Q", 2**60) + b"{}")


def test_safetensors_arrays_that_overlap_or_stand_twice(refused):
    one = {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}
    assert "does not fit" in refused(safetensors({"a": one, "b": one}, bytes(256)))
    other = one | {"data_offsets": [256, 512]}
    twice = json.dumps({"a": one})[:-1] + "," + json.dumps({"a": other})[1:]
    assert "does not fit" in refused(safetensors(twice.encode(), bytes(512)))


def test_safetensors_of_other_dtypes_are_not_read(refused):
    header = {"conv1/bias": {"dtype": "BF16", "shape": [64], "data_offsets": [0, 128]}}
    assert "conv1/bias is bfloat16 (64,), not float32 (64,)" in refused(
        safetensors(header, bytes(128))
    )


# ---- TensorFlow; on the first of these TensorFlow's own reader ends the process


@pytest.fixture
def table(tmp_path):
    def write(pairs, **how):
        (tmp_path / "a.ckpt.index").write_bytes(tables.index(pairs, **how))
        (tmp_path / "a.ckpt.data-00000-of-00001").write_bytes(b"\1" * 256)
        return tmp_path / "a.ckpt"

    return write


def test_the_tables_made_here_are_read_when_they_are_honest(table):
    path = table([(BIAS, tables.entry())])
    found = read_index(path.with_name("a.ckpt.index").read_bytes())
    assert found.tensors[BIAS.decode()].shape == (64,)


def read_bias(path):
    file = open_checkpoint(path)
    if file.defect:
        raise file.defect
    tensor = file.tensors[BIAS.decode()]
    if tensor.dtype != "float32":
        raise ValueError("only float32 is read")
    return tensor.read()


SIZE = tables.field(1, 64)  # of a dimension
HONEST = tables.entry()
REST = tables.field(1, tables.FLOAT) + tables.field(5, 256)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        # these would end the process, so they are refused before TensorFlow sees them
        (tables.entry(shape=(-64,)), "an impossible shape"),
        (tables.entry(shape=(2**40, 2**40)), "an impossible shape"),
        (tables.entry(shape=(2**40, 2**40, 0)), "an impossible shape"),
        (tables.entry(shape=(1,) * 255), "an impossible shape"),
        (tables.entry(shape=(-64,))[2:] + HONEST, "an impossible shape"),  # two shapes, joined
        (tables.entry(slices=[[(0, -3)]]), "an impossible slice"),
        (tables.entry(slices=[[(-1, -2)]]), "an impossible slice"),
        (tables.entry(slices=[[(0, 64)], [(0, 64)]]), "one slice twice"),
        (HONEST + tables.field(7, tables.field(1, tables.field(1, 5))), "an impossible slice"),
        (
            REST + tables.field(2, tables.field(2, SIZE + tables.field(2, b"\xff"))),
            "protocol buffer",
        ),
        (b"\x88\x80\x80\x80\x80\x00\x01" + HONEST, "protocol buffer"),  # an overlong number
        (b"\x12\x80\x80\x80\x80\x80\x00" + HONEST, "no valid end"),
        (b"\xff\xff\xff", "protocol buffer"),
        (b"\x0a\xff\x01", "protocol buffer"),
        (b"\x12\xff\x01", "cut off"),
        (b"\x08" + b"\xff" * 12, "no valid end"),
        (b"\x0b", "protocol buffer"),
        # these are refused here because data files are looked for, and measured
        (tables.entry(size=-256), "an impossible shape or place"),
        (tables.entry(offset=-5), "an impossible shape or place"),
        (tables.entry(offset=2**50), "truncated"),
        (tables.entry(shard=9), "data file 9 of 1"),
        (tables.entry(shard=-1), "data file -1 of 1"),
        # and these by TensorFlow
        (tables.entry(shape=(65,)), "is damaged at features/layer0/bias"),
        (tables.entry(shape=(0, 2**40, 2**20)), "is damaged at features/layer0/bias"),
        (tables.entry(slices=[[(0, 65)]]), "is damaged at features/layer0/bias"),
        (tables.entry(slices=[[(2**62, 2**62)]]), "is damaged at features/layer0/bias"),
        (tables.entry(slices=[[(0, 1), (0, 1)]]), "is damaged at features/layer0/bias"),
        (tables.entry(slices=[[]]), "is damaged at features/layer0/bias"),
    ],
)
def test_index_that_says_what_cannot_be(table, entry, why):
    path = table([(BIAS, entry)])
    with pytest.raises(ValueError, match=why):
        read_bias(path)


def test_index_entries_changed_at_random_under_right_checksums(table):
    chance = random.Random(0)
    slices = [[(0, 4), (0, 8)], [(4, 4), (0, 8)]]
    for _ in range(300):
        entry = bytearray(tables.entry(shape=(8, 8), slices=slices))
        for _ in range(chance.randint(1, 3)):
            entry[chance.randrange(len(entry))] = chance.choice([0, 1, 8, 18, 127, 128, 255])
        with pytest.raises(ValueError, match=r"a\.ckpt|float32"):
            read_bias(table([(BIAS, bytes(entry))]))


def test_index_with_an_array_larger_than_any_memory(refused, table):
    text = refused(table([(BIAS, tables.entry(shape=(2**50,), size=256))]))
    assert "features/layer0/bias is float32 (1125899906842624,), not float32 (64,)" in text


def test_index_with_a_dtype_that_does_not_exist(refused, table):
    assert "dtype 99 (64,), not float32 (64,)" in refused(table([(BIAS, tables.entry(dtype=99))]))
    assert "dtype 0 (), not float32 (64,)" in refused(table([(BIAS, b"")]))


def test_index_with_a_checksum_that_does_not_match(table):
    path = table([(BIAS, tables.entry())])
    index = path.with_name("a.ckpt.index")
    content = bytearray(index.read_bytes())
    content[content.index(BIAS) + len(BIAS) + 1] ^= 1  # the dtype
    index.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt\.index: is damaged"):
        open_checkpoint(path).tensors[BIAS.decode()].read()


def test_index_with_a_name_twice_or_that_is_not_text(refused, table):
    pair = (BIAS, tables.entry())
    assert "holds 'features/layer0/bias' twice" in refused(table([pair, pair]))
    assert "is of another network" in refused(table([(b"\xff\xfe", tables.entry())]))


def test_index_with_millions_of_data_files(refused, table):
    header = tables.field(1, 2**31)
    assert "it names 2147483648 data files" in refused(
        table([(BIAS, tables.entry())], header=header)
    )


def test_index_whose_blocks_lie_outside_of_it(refused, tmp_path):
    footer = b"".join(map(tables.varint, (0, 0, 2**60, 2**60))).ljust(40, b"\0")
    (tmp_path / "a.index").write_bytes(footer + tables.MAGIC)
    assert "a block lies beyond its end" in refused(tmp_path / "a.index")


def test_state_file_that_leads_out_of_its_folder(refused, tmp_path):
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "model.index").write_bytes(tables.index([(BIAS, tables.entry())]))
    for named in (
        f"{secret}/model",
        f"../{tmp_path.name}/elsewhere/model",
        "elsewhere/model",
        "..",
    ):
        (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{named}"\n')
        assert "in its folder" in refused(tmp_path / "checkpoint")


def test_state_file_with_an_unfinished_string(refused):
    assert "damaged checkpoint state file" in refused(b'model_checkpoint_path: "abc\\')


@pytest.mark.parametrize("escape", [rb"\x", rb"\x9", rb"\d\x", rb"\777"])
def test_a_state_file_with_an_escape_that_is_none(refused, escape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = refused(b'model_checkpoint_path: "abc%s"' % escape)
    assert "damaged checkpoint state file" in text or "names the checkpoint" in text
    assert text.isprintable()


# ---- the rest


def test_names_that_would_command_a_terminal(refused, tmp_path):
    np.savez(tmp_path / "a.npz", **{"\x1b[2Jconv1/bias\r": np.zeros(64, np.float32)})
    assert "\\x1b[2Jconv1/bias\\r" in refused(tmp_path / "a.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_that_never_ends(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")


def test_a_link_to_itself(refused, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop")


def test_a_file_of_many_gigabytes(refused, tmp_path):
    with (tmp_path / "sparse.npz").open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**36)
    assert "has 68,719,476,736 bytes, at most 67,108,864 are read" in refused(
        tmp_path / "sparse.npz"
    )


@pytest.mark.parametrize("form", ["npz", "safetensors", "index"])
def test_any_damage_is_told_or_harmless(arrays, tmp_path, form):
    """Bytes changed at random: a sentence, or the arrays as they were but for their values."""
    small = {path: array for path, array in arrays.items() if array.size < 3000}
    path = tmp_path / f"a.{form}"
    if form == "npz":
        np.savez(path, **small)
    elif form == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(small, path)
    else:
        path.write_bytes(tables.index([(BIAS, tables.entry())]))
    content = path.read_bytes()
    chance = random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            near = chance.choice([len(content), min(len(content), 3000)])
            damaged[-chance.randrange(near) if form == "npz" else chance.randrange(near)] = (
                chance.randrange(256)
            )
        path.write_bytes(damaged)
        with pytest.raises((ValueError, OSError), match=rf"a(\.{form})?: "):
            read_weights(path)

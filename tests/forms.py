"""Writes SqueezeNet's weights as other programs do: TensorFlow 1 and 2, Keras 1 and 2, NumPy, PyTorch.

The names are spelled out here once more, independent of the tables under test.
"""

import h5py
import numpy as np

from visualization.backend import tf

TORCH_POSITIONS = (3, 4, 6, 7, 9, 10, 11, 12)
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def tf1_name(path):
    """conv1/kernel -> features/layer0/weights, as in the course's first checkpoint."""
    layer, *part, variable = path.split("/")
    variable = {"kernel": "weights", "bias": "bias"}[variable]
    if not part:
        return f"{ {'conv1': 'features/layer0', 'conv10': 'classifier/layer1'}[layer] }/{variable}"
    part = {"squeeze": "squeeze", "expand1x1": "e11", "expand3x3": "e33"}[part[0]]
    return f"features/layer{TORCH_POSITIONS[int(layer[4:]) - 2]}/fire/{part}/{variable}"


def tf2_name(path):
    """conv1/kernel -> net/layer_with_weights-0/kernel, without the suffix."""
    layer, *rest = path.split("/")
    number = {"conv1": 0, "conv10": 9}.get(layer) if "fire" not in layer else int(layer[4:]) - 1
    return "/".join(["net", f"layer_with_weights-{number}", *rest])


def torch_name(path):
    layer, *part, variable = path.split("/")
    variable = {"kernel": "weight", "bias": "bias"}[variable]
    if not part:
        return f"{ {'conv1': 'features.0', 'conv10': 'classifier.1'}[layer] }.{variable}"
    return f"features.{TORCH_POSITIONS[int(layer[4:]) - 2]}.{part[0]}.{variable}"


def caffe_layer(path, separator="/"):
    """fire2/squeeze/kernel -> fire2/squeeze1x1."""
    layer, *part, _ = path.split("/")
    return separator.join([layer, *(name.replace("squeeze", "squeeze1x1") for name in part)])


def torch_arrays(arrays):
    """Under torchvision's names, kernels OIHW."""
    return {
        torch_name(path): np.ascontiguousarray(a.transpose(3, 2, 0, 1)) if a.ndim == 4 else a
        for path, a in arrays.items()
    }


def write_tf1(prefix, arrays, rename=tf1_name, devices=1, extra=None, **saver):
    """With tf.compat.v1.train.Saver; on two devices and sharded=True it makes two data files."""
    named = {rename(path): array for path, array in arrays.items()} | (extra or {})
    with tf.Graph().as_default():
        for number, (name, array) in enumerate(named.items()):
            with tf.device(f"/cpu:{number % devices}"):
                tf.compat.v1.get_variable(name, initializer=array)
        config = tf.compat.v1.ConfigProto(device_count={"CPU": devices})
        with tf.compat.v1.Session(config=config) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            writer = tf.compat.v1.train.Saver(**saver)
            writer.save(session, str(prefix), write_meta_graph=False)
    return prefix


def write_tf2(prefix, arrays, rename=tf2_name, **options):
    """With tf.train.Checkpoint, an object graph under the course's keys."""
    tree = {}
    for path, array in arrays.items():
        *nodes, leaf = rename(path).split("/")
        branch = tree
        for node in nodes:
            branch = branch.setdefault(node, {})
        branch[leaf] = tf.Variable(array)
    _checkpoint(tree).write(str(prefix), options=tf.train.CheckpointOptions(**options))
    return prefix


def _checkpoint(tree):
    nodes = {k: _checkpoint(v) if isinstance(v, dict) else v for k, v in tree.items()}
    return tf.train.Checkpoint(**nodes)


def write_keras2(path, arrays, separator="/", top="", version=2):
    """HDF5 as Keras 2 (or 1) writes it: LAYER/LAYER/kernel:0 (or LAYER/LAYER_W:0), attributes too."""
    with h5py.File(path, "w") as file:
        root = file.require_group(top) if top else file
        layers = {}
        for name, array in arrays.items():
            layers.setdefault(caffe_layer(name, separator), {})[name.split("/")[-1]] = array
        root.attrs["layer_names"] = [b"input_1", *(layer.encode() for layer in layers)]
        root.attrs["keras_version"] = b"2.1.6" if version == 2 else b"1.2.2"
        root.create_group("input_1").attrs["weight_names"] = []
        for layer, variables in layers.items():
            group = root.create_group(layer)
            letters = {"kernel": "_W:0", "bias": "_b:0"}
            for variable, array in variables.items():
                leaf = f"/{variable}:0" if version == 2 else letters[variable]
                group.create_dataset(layer + leaf, data=array)
            group.attrs["weight_names"] = [n.encode() for n in sorted(variables)]
    return path

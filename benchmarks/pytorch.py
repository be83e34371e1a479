"""The bundled networks in PyTorch, with the bundled weights: the peers. Imported only with torch."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn.functional import conv2d, pad, relu6

from visualization.weight_files.architectures import EFFICIENTNET_LITE2
from visualization.weight_files.loading import read_weights


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def squeezenet() -> nn.Module:
    """Input NCHW; parameters without gradients, as for pictures of what the network sees."""
    names = ["conv1", "", "", "fire2", "fire3", "", "fire4", "fire5", "", "fire6", "fire7"]
    names += ["fire8", "fire9", "conv10"]
    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2)]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2)]
    layers += [Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
    layers += [nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    for path, array in read_weights("imagenet").arrays.items():
        layer, *inner, variable = path.split("/")
        module = model[names.index(layer)]
        for name in inner:
            module = getattr(module, name)
        value = torch.from_numpy(array)
        if variable == "kernel":
            module.weight.copy_(value.permute(3, 2, 0, 1))
        else:
            module.bias.copy_(value)
    return model


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow pads "same": an even image that is halved, more at its end."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1 or x.shape[2] % 2:
            return super().forward(x)
        sides = (kernel - 2) // 2, (kernel - 1) // 2
        return conv2d(pad(x, sides * 2), self.weight, self.bias, stride, groups=self.groups)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = expansion * inputs
        if expansion > 1:
            self.expand = Same(inputs, inside, 1)
        self.depthwise = Same(inside, inside, kernel, stride, groups=inside)
        self.project = Same(inside, outputs, 1)
        self.widens, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = relu6(self.expand(inputs), inplace=True) if self.widens else inputs
        x = self.project(relu6(self.depthwise(x), inplace=True))
        return x + inputs if self.adds else x


def efficientnet_lite2() -> nn.Module:
    """Input NCHW, 260 pixels; parameters without gradients; layers are called as ours."""
    stages = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 3), (5, 2, 6, 48, 3), (3, 2, 6, 88, 4)]
    stages += [(5, 1, 6, 120, 4), (5, 2, 6, 208, 5), (3, 1, 6, 352, 1)]
    layers: dict[str, nn.Module] = {"stem": Same(3, 32, 3, 2), "relu": nn.ReLU6(inplace=True)}
    inputs, number = 32, 0
    for kernel, stride, expansion, outputs, blocks in stages:
        for strides in (stride, *[1] * (blocks - 1)):
            number += 1
            layers[f"block{number}"] = InvertedResidual(inputs, outputs, kernel, strides, expansion)
            inputs = outputs
    layers |= {"head": Same(352, 1280, 1), "relu_of_head": nn.ReLU6(inplace=True)}
    layers |= {"features": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    layers["classifier"] = nn.Linear(1280, 1000)
    model = nn.Sequential(OrderedDict(layers)).eval().requires_grad_(False)
    for path, array in read_weights("imagenet", EFFICIENTNET_LITE2).arrays.items():
        *layer, variable = path.split("/")
        module, value = model.get_submodule(".".join(layer)), torch.from_numpy(array)
        if variable == "bias":
            module.bias.copy_(value)
        elif layer[-1] == "depthwise":
            module.weight.copy_(value.permute(2, 3, 0, 1))  # HWI1 -> I1HW
        else:
            module.weight.copy_(value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T)
    return model


NETWORKS = {"squeezenet": squeezenet, "efficientnet-lite2": efficientnet_lite2}


def layouts(network: str) -> dict[str, tuple[nn.Module, torch.memory_format]]:
    """The network in both memory layouts; of the two, the faster one counts as the peer."""
    build = NETWORKS[network]
    return {
        "PyTorch, NCHW": (build(), torch.contiguous_format),
        "PyTorch, channels last": (
            build().to(memory_format=torch.channels_last),
            torch.channels_last,
        ),
    }

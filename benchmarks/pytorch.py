"""SqueezeNet 1.1 in PyTorch with the bundled weights: the peer network. Imported only with torch."""

import torch
from torch import nn

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


def layouts() -> dict[str, tuple[nn.Module, torch.memory_format]]:
    """The network in both memory layouts; of the two, the faster one counts as the peer."""
    return {
        "PyTorch, NCHW": (squeezenet(), torch.contiguous_format),
        "PyTorch, channels last": (
            squeezenet().to(memory_format=torch.channels_last),
            torch.channels_last,
        ),
    }

__all__ = [
    "Captioner",
    "CaptioningRNN",
    "build_dataset",
    "caption_dataset",
    "decode_captions",
    "functional",
    "layers",
    "load_captioner",
    "load_coco_data",
    "make_shapes",
    "ops",
    "sample_coco_minibatch",
    "score_captions",
]

from . import functional, layers, ops
from .captioner import Captioner, load_captioner
from .data.batches import caption_dataset
from .data.build import build_dataset, make_shapes
from .data.coco import decode_captions, load_coco_data, sample_coco_minibatch
from .metrics.scores import score_captions
from .model import CaptioningRNN

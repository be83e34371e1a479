__all__ = [
    "SQUEEZENET_MEAN",
    "SQUEEZENET_STD",
    "EfficientNetLite2",
    "Faithfulness",
    "FoolingResult",
    "IntegratedGradients",
    "NetworkSpecification",
    "SqueezeNet",
    "attention_rollout",
    "auc",
    "blur_image",
    "build_ensemble",
    "cascading_randomization",
    "class_names",
    "class_over",
    "class_visualization_update_step",
    "compare_with_random",
    "compute_saliency_maps",
    "content_loss",
    "create_class_visualization",
    "deletion_curve",
    "deprocess_image",
    "extract_features",
    "find_class",
    "fooling_distances",
    "forget",
    "grad_cam",
    "gram_matrix",
    "hold_inputs",
    "image_from_url",
    "image_gradients",
    "insertion_curve",
    "integrated_gradients",
    "jitter",
    "load_image",
    "load_imagenet_val",
    "load_weights",
    "make_fooling_image",
    "make_fooling_images",
    "network_specification",
    "occlusion",
    "paint_class",
    "predict_probabilities",
    "predict_scores",
    "preprocess_image",
    "projected_gradient_ascent",
    "rise",
    "robust_accuracy",
    "smallest_fooling_images",
    "smoothed",
    "style_loss",
    "style_transfer",
    "tv_loss",
    "unit_of",
]

from .attention_maps import attention_rollout
from .attribution import (
    IntegratedGradients,
    compute_saliency_maps,
    integrated_gradients,
    smoothed,
)
from .budgets import (
    fooling_distances,
    projected_gradient_ascent,
    robust_accuracy,
    smallest_fooling_images,
)
from .class_activation import grad_cam
from .class_visualization import class_visualization_update_step, create_class_visualization
from .compilation import forget
from .ensemble import build_ensemble
from .faithfulness import (
    Faithfulness,
    auc,
    cascading_randomization,
    compare_with_random,
    deletion_curve,
    insertion_curve,
)
from .fooling import FoolingResult, make_fooling_image, make_fooling_images
from .gradients import image_gradients, predict_probabilities, predict_scores
from .held_inputs import hold_inputs
from .images.channel_statistics import SQUEEZENET_MEAN, SQUEEZENET_STD
from .images.preprocessing import deprocess_image, preprocess_image
from .images.reading import image_from_url, load_image
from .images.transforms import blur_image, jitter
from .networks.efficientnet_lite2 import EfficientNetLite2
from .networks.imagenet import class_names, find_class, load_imagenet_val
from .networks.specification import NetworkSpecification, network_specification
from .networks.squeezenet import SqueezeNet
from .painting import paint_class
from .perturbation import occlusion, rise
from .style import (
    content_loss,
    extract_features,
    gram_matrix,
    style_loss,
    style_transfer,
    tv_loss,
)
from .targets import class_over, unit_of
from .weight_files.loading import load_weights

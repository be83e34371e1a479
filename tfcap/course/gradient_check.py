"""``cs231n.gradient_check``: gradients by central differences."""

from tfcap.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array"]

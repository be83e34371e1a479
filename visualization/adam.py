"""What Adam (Kingma, Ba 2015, arXiv:1412.6980) makes of a gradient, for loops on images."""

from visualization.backend import tf

__all__ = ["adam_moments"]


def adam_moments(
    t: tf.Tensor, gradient: tf.Tensor, mean: tf.Tensor, square: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """One iteration of algorithm 1, but for the step itself; beta1 is 0.9, beta2 0.999.

    Args:
        t: how many iterations were done before, an integer.
        gradient: float32, of any shape.
        mean, square: the first and second moment so far, of that shape; zeros at the start.

    Returns:
        mean and square from now on; then the direction, m-hat, and its scale, the root of v-hat, by
        which a step divides it.

    Example:
        >>> zero = tf.zeros(1)
        >>> *_, direction, scale = adam_moments(tf.constant(0), tf.fill([1], 3.0), zero, zero)
        >>> direction.numpy().round(4).tolist(), scale.numpy().round(4).tolist()
        ([3.0], [3.0])
    """
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * tf.square(gradient)
    taken = tf.cast(t + 1, tf.float32)
    return mean, square, mean / (1 - 0.9**taken), tf.sqrt(square / (1 - 0.999**taken))

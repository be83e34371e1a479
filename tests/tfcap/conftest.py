"""Two logical processors, so that a distribution strategy has two replicas."""

from visualization.backend import tf


def pytest_configure() -> None:
    (processor,) = tf.config.list_physical_devices("CPU")[:1]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)

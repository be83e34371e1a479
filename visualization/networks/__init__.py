"""The bundled networks, and the classes that they were trained on."""

__all__ = ["NETWORKS"]

NETWORKS = ("squeezenet", "efficientnet-lite2")

"""The bundled networks and their classes."""

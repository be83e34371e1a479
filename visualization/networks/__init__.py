"""The bundled networks, and the classes that they were trained on."""

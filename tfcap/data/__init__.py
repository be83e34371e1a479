"""Captions and features of images: the layouts people have, read lazily, built and streamed."""

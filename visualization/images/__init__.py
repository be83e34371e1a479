"""Photographs: the one reader, and what is done to pixels on the way to a network and back."""

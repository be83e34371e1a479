"""The course's two models."""

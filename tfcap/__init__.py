"""Image captioning with recurrent networks whose gradients are written by hand."""

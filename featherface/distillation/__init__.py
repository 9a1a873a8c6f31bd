"""The frozen teacher and the losses against it."""

"""The fitting loop, optimizers and checkpoints."""

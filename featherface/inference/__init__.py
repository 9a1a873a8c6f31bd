"""From an image to faces."""

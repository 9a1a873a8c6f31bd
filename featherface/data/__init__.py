"""Photographs and annotations: reading, importing, checking, making, augmenting, batching."""

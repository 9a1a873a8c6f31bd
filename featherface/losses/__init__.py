"""Matching of priors to faces, and the multibox loss."""

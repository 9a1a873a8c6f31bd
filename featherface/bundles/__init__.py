"""Distillation on a machine that has torch, numpy and OpenCV and nothing else: pack, train there, collect."""

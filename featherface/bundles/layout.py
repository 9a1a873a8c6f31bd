"""The files of a bundle and of what comes back from it; nothing but the standard library."""

SCHEMA = 2

BUNDLE = "bundle.json"
"""Settings, what data and teacher they belong to, and the digests of the other files."""
ANNOTATIONS = "annotations.txt"
"""Of the training photographs, in the benchmark's own format."""
TEACHER = "teacher.npz"
INITIAL = "initial.npz"
"""A student to go on from; not there without one."""
SHARD = "images-{:03d}.zip"
"""Photographs as they are on disk, not compressed again."""

ORIGIN = "bundle.sha256"
"""Digest of the `bundle.json` that is trained here; the first file to be written."""
RESULT = "result.json"
"""History and circumstances of a finished training; the last file to be written."""
STUDENT = "student.npz"
NOTES = "notes.jsonl"
"""Numbers by step while it trains, a line each: what is told to MLflow afterwards."""
CHECKPOINT = "checkpoint.pt"

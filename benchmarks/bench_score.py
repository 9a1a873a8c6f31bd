"""How long scoring by the WIDER FACE protocol takes: the vectorized code against the plain walk of the tests.

    python benchmarks/bench_score.py [--repeats 7] [--predictions FILE.npz --ground-truth DIR] [--skip-slow]

Without files it scores a made set of the official one's size (3,226 images, 39,708 faces, crowds included). A
file holds `dets` (N, 5) x y w h score, `counts` (I,) and `names` (I,). Prints JSON; reading is not timed.

"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "property"))

from slow_widerface import slow_average_precision

from featherface.evaluation.widerface import SETTINGS, WiderGroundTruth, average_precision, load_ground_truth

Predictions = dict[str, np.ndarray]


def make_set(seed: int = 0) -> tuple[Predictions, WiderGroundTruth]:
    """Faces of heavy-tailed number and size, found with jitter, misses, duplicates and false positives."""
    rng = np.random.default_rng(seed)
    num_images, num_faces = 3226, 39_708
    shares = rng.pareto(1.1, num_images) + 0.2
    counts = 1 + rng.multinomial(num_faces - num_images, shares / shares.sum())
    sizes = np.exp(rng.normal(3.2, 1.0, num_faces)).clip(3, 600)
    faces = np.column_stack([rng.uniform(0, 1024, (num_faces, 2)), sizes, sizes * 1.25]).round()
    offsets = np.concatenate([[0], np.cumsum(counts)])
    names = tuple(f"0--Made/{i}" for i in range(num_images))
    predictions = {}
    for i, name in enumerate(names):
        own = faces[offsets[i] : offsets[i + 1]]
        found = own[rng.random(len(own)) < 0.85]
        boxes = np.concatenate([found, found[rng.random(len(found)) < 0.2]])
        boxes = boxes + rng.normal(0, 0.08, boxes.shape) * boxes[:, 2:3]
        strays = rng.uniform(4, 300, (rng.poisson(2), 4))
        scores = np.concatenate([rng.beta(4, 2, len(boxes)), rng.beta(2, 4, len(strays))])
        predictions[name] = np.column_stack([np.concatenate([boxes, strays]), scores])
    is_counted = {"easy": sizes > 50, "medium": sizes > 30, "hard": sizes > 10}
    return predictions, WiderGroundTruth(names, faces, offsets, is_counted, num_images)


def read_set(predictions: Path, ground_truth: Path) -> tuple[Predictions, WiderGroundTruth]:
    with np.load(predictions) as file:
        groups = np.split(file["dets"], np.cumsum(file["counts"])[:-1])
        return dict(zip(file["names"].tolist(), groups, strict=True)), load_ground_truth(ground_truth)


def score_slowly(predictions: Predictions, ground_truth: WiderGroundTruth) -> list[float]:
    faces, aps = {}, []
    for i, name in enumerate(ground_truth.names):
        faces[name] = ground_truth.boxes_xywh[ground_truth.offsets[i] : ground_truth.offsets[i + 1]]
    for setting in SETTINGS:
        masks = np.split(ground_truth.is_counted[setting], ground_truth.offsets[1:-1])
        counted = {n: set(np.flatnonzero(m).tolist()) for n, m in zip(ground_truth.names, masks, strict=True)}
        aps.append(slow_average_precision(predictions, faces, counted))
    return aps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--ground-truth", type=Path)
    parser.add_argument("--skip-slow", action="store_true", help="the plain walk takes minutes")
    arguments = parser.parse_args()
    if (arguments.predictions is None) != (arguments.ground_truth is None):
        parser.error("--predictions and --ground-truth go together")
    if arguments.predictions is not None:
        predictions, ground_truth = read_set(arguments.predictions, arguments.ground_truth)
    else:
        predictions, ground_truth = make_set()
    times_s, cpu_s = [], []
    for _ in range(arguments.repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        result = average_precision(predictions, ground_truth)
        times_s.append(time.perf_counter() - start)
        cpu_s.append(time.process_time() - cpu_start)
    report: dict[str, object] = {
        "images": result.images,
        "detections": result.detections,
        "ap": {setting: getattr(result, setting) for setting in SETTINGS},
        "seconds_p50": statistics.median(times_s),
        "seconds_p90": float(np.quantile(times_s, 0.9)),
        "cpu_seconds_p50": statistics.median(cpu_s),
        "repeats": arguments.repeats,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "numpy": np.__version__,
    }
    if not arguments.skip_slow:
        cpu_start = time.process_time()
        slow_aps = score_slowly(predictions, ground_truth)
        report["slow_cpu_seconds"] = time.process_time() - cpu_start
        report["speedup"] = report["slow_cpu_seconds"] / statistics.median(cpu_s)
        fast_aps = [getattr(result, setting) for setting in SETTINGS]
        report["largest_difference"] = float(np.abs(np.subtract(fast_aps, slow_aps)).max())
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

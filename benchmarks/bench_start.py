"""How long a program waits for its first faces, and how much memory it holds then and after many images.

    python benchmarks/bench_start.py [--repeats 5] [--images 200] [--max-side 1500]

Each figure is of new processes with one thread, in turns with one that only imports numpy, ONNX Runtime and
OpenCV: what no detector on them can go below. Seconds of the clock, and of the processor (`cpu`), which say
more on a busy machine. The memory run looks at noise of random sizes from 1 px to `--max-side`, each side for
itself, in the detector's default size; the official number of images is 2,000. Prints JSON; the photograph is
the portrait of scikit-image.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import cv2

LIMITS = {"import_s": 0.15, "first_faces_s": 0.6, "resident_mib": 200}
REFERENCE = "numpy, onnxruntime, cv2"
PROGRAMS = {
    REFERENCE: "import numpy, onnxruntime, cv2",
    "import featherface": "import featherface",
    "first faces": "import featherface; assert len(featherface.FaceDetector(num_threads=1)(sys.argv[1]))",
}
# Without the interpreter's own start, which is the same for all.
TIMED = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
{program}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
import json, pathlib
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
print(json.dumps([wall, cpu, pages * 4096 / 2**20]))
"""
MANY = """
import json, pathlib, sys
import numpy as np
from featherface import FaceDetector
def resident_mib():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
detector = FaceDetector(num_threads=1)
detector(sys.argv[1])
num_images, max_side = int(sys.argv[2]), int(sys.argv[3])
rng, seen = np.random.default_rng(0), {"first": resident_mib()}
for index in range(num_images):
    height, width = rng.integers(1, max_side + 1, 2)
    detector(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    if index + 1 in (num_images // 10, num_images // 2, num_images):
        seen[str(index + 1)] = resident_mib()
print(json.dumps(seen))
"""


def write_portrait(folder: Path) -> Path:
    """A JPEG of scikit-image's portrait, which most first photographs are."""
    import skimage

    portrait = cv2.imread(str(Path(skimage.__file__).parent / "data" / "astronaut.png"))
    path = folder / "portrait.jpg"
    cv2.imwrite(str(path), portrait)
    return path


def run(code: str, *arguments: object) -> list[float] | dict[str, float]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def time_starts(photograph: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Medians of each program, and their ratio to the reference of the same round."""
    rounds = [
        {name: run(TIMED.format(program=program), photograph) for name, program in PROGRAMS.items()}
        for _ in range(repeats + 1)  # the first one fills the disk's cache
    ]
    report = {}
    for name in PROGRAMS:
        walls, cpus, mibs = zip(*(one[name] for one in rounds[1:]), strict=True)
        ratios = [one[name][1] / one[REFERENCE][1] for one in rounds[1:]]
        report[name] = {
            "wall_s": round(statistics.median(walls), 3),
            "wall_s_least": round(min(walls), 3),
            "cpu_s": round(statistics.median(cpus), 3),
            "cpu_over_reference": round(statistics.median(ratios), 2),
            "resident_mib": round(statistics.median(mibs), 1),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=200, help="2000 is the official number")
    parser.add_argument("--max-side", type=int, default=1500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photograph = write_portrait(Path(folder))
        starts = time_starts(photograph, arguments.repeats)
        memory = run(MANY, photograph, arguments.images, arguments.max_side)
    report = {
        "starts": starts,
        "resident_mib_after_images": {name: round(mib, 1) for name, mib in dict(memory).items()},
        "limits": LIMITS,
        "repeats": arguments.repeats,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load": [round(value, 1) for value in os.getloadavg()],
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("numpy", "onnxruntime", "opencv-python-headless")},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

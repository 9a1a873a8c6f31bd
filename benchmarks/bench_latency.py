"""How long the exported student takes beside YuNet, and where its time goes.

    python benchmarks/bench_latency.py [--model FILE.onnx] [--peers DIR] [--rounds 40] [--skip-innovations]

Networks alone and end to end (scaling, network, decoding, suppression), at 320 and 640 px, with one and two
threads (there detectors disturb each other's turns: two threads over one count more); the time of each part;
what each innovation costs (the same network exported without it). All that is compared takes turns in one
process, and ratios count. Without the folder of peers (`yunet_n*.onnx` in it) the ratios to YuNet are left
out. Prints JSON; a run takes a minute of a free core, most of it for exports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from featherface.comparison.cost import count_cost
from featherface.comparison.peers import open_detector
from featherface.config import EvaluateConfig, SynthesizeConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import open_widerface
from featherface.export.latency import LatencyReport, measure_latency
from featherface.export.onnx import export_onnx
from featherface.imaging import RgbImage, letterbox, read_image
from featherface.inference.backends import info_of_module
from featherface.inference.detector import FaceDetector
from featherface.inference.loading import shipped_weights
from featherface.models.build import build_model
from featherface.names import INNOVATIONS

SIZES_PX = (320, 640)
THREADS = (1, 2)
PARTS_PX = 640
YUNET = "yunet_n"
OURS = "featherface"
DEFAULT_PEERS = Path("peers")

# Where the network is cut: the outputs (True) or the maps read (False) by the convolutions of these weights.
# Innovation 5 is inside the last convolution that reads the context, 3 behind the output layers.
CUTS: tuple[tuple[str, bool, tuple[str, ...]], ...] = (
    ("backbone, stage 1", True, ("backbone.stage1.5.pointwise.conv",)),
    ("backbone, stage 2", True, ("backbone.stage2.5.pointwise.conv",)),
    ("backbone, stage 3", True, ("backbone.stage3.1.pointwise.conv",)),
    (
        "reducers and BiFPN",
        True,
        tuple(f"neck.repeats.2.nodes.{level}_out.conv.pointwise" for level in ("p3", "p4", "p5")),
    ),
    ("innovation 1, attention, innovation 4", False, tuple(f"context.{level}.first" for level in range(3))),
    ("context, innovation 5", False, tuple(f"shuffle.{level}.depthwise.conv" for level in range(3))),
)
LAST_PART = "shuffle, output layers, innovation 3"


def compared(report: LatencyReport, baseline: str) -> dict[str, dict[str, float]]:
    """Medians, minima and ratios of a run."""
    base = report.latencies[baseline]
    return {
        name: {
            "median_ms": round(latency.median_ms, 3),
            "min_ms": round(latency.min_ms, 3),
            "ratio": round(report.ratio(name, baseline), 3),
            "ratio_of_minima": round(latency.min_ms / base.min_ms, 3),
        }
        for name, latency in report.latencies.items()
    }


def end_to_end(
    model: Path, yunet: Path | None, image: RgbImage, size_px: int, threads: int
) -> dict[str, Callable[[object], object]]:
    """Detectors as functions of an argument that they ignore: they look at the image."""
    settings = EvaluateConfig(score_threshold=0.5, image_size=size_px, num_threads=threads)
    ours = FaceDetector(model, image_size=size_px, num_threads=threads, device="cpu")
    runs: dict[str, Callable[[object], object]] = {OURS: lambda _: ours.detect(image)}
    if yunet is not None:
        theirs = open_detector(yunet, settings)  # takes images as they are, so they are scaled here
        runs[YUNET] = lambda _: theirs(letterbox(image, size_px).image)
    return runs


def speed(model: Path, yunet: Path | None, image: RgbImage, rounds: int) -> dict[str, Any]:
    """Of the network and end to end, by size and threads."""
    files = {OURS: model} | ({} if yunet is None else {YUNET: yunet})
    baseline = OURS if yunet is None else YUNET
    found: dict[str, Any] = {}
    for size_px in SIZES_PX:
        for threads in THREADS:
            network = measure_latency(files, input_hw=(size_px, size_px), rounds=rounds, num_threads=threads)
            # The input is not used, so it is small.
            whole = measure_latency(
                end_to_end(model, yunet, image, size_px, threads), input_hw=(32, 32), rounds=rounds
            )
            found[f"{size_px} px, {threads} thread{'s' * (threads > 1)}"] = {
                "network": compared(network, baseline),
                "end_to_end": compared(whole, baseline),
            }
        # One after the other: threads that wait for work by spinning would take the other one's core.
        one, two = (
            measure_latency(
                end_to_end(model, None, image, size_px, threads), input_hw=(32, 32), rounds=rounds
            ).latencies[OURS]
            for threads in THREADS
        )
        found[f"{size_px} px, two threads over one"] = {
            "end_to_end": round(two.median_ms / one.median_ms, 3),
            "end_to_end_of_minima": round(two.min_ms / one.min_ms, 3),
        }
    return found


def cut(model: Path, folder: Path) -> dict[str, Path]:
    """The network up to the end of each part, by the names of `CUTS`; nothing for networks of other parts."""
    proto = onnx.load(model)
    reads = {node.input[1]: node for node in proto.graph.node if node.op_type == "Conv"}
    follows = {name: node for node in proto.graph.node for name in node.input[:1]}
    files = {}
    for number, (part, is_output, weights) in enumerate(CUTS):
        nodes = [reads.get(f"detector.{weight}.weight") for weight in weights]
        if None in nodes:
            return {}
        ends = []
        for node in nodes:
            name = node.output[0] if is_output else node.input[0]
            after = follows.get(name)
            is_activation = is_output and after is not None and after.op_type == "LeakyRelu"
            ends.append(after.output[0] if is_activation else name)
        path = folder / f"part{number}.onnx"
        onnx.save(_up_to(proto, ends), path)
        files[part] = path
    return {**files, LAST_PART: model}


def _up_to(proto: onnx.ModelProto, ends: list[str]) -> onnx.ModelProto:
    """The network with these maps as outputs, and only what they need."""
    needed, kept = {*ends}, []
    for node in reversed(proto.graph.node):
        if needed & {*node.output}:
            needed.update(node.input)
            kept.append(node)
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.node[:], part.graph.output[:]
    part.graph.node.extend(reversed(kept))
    part.graph.output.extend(helper.make_tensor_value_info(end, TensorProto.FLOAT, None) for end in ends)
    return part


def parts(model: Path, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Milliseconds, multiply-adds and their rate of each part: differences of networks cut behind it."""
    files = {"peak": write_peak(folder / "peak.onnx"), **cut(model, folder)}
    report = measure_latency(files, input_hw=(PARTS_PX, PARTS_PX), rounds=rounds)
    rows, before_ms, before_adds = [], 0.0, 0
    total_ms = report.latencies[LAST_PART].min_ms if LAST_PART in files else 0.0
    for name, path in files.items():
        adds = count_cost(path, input_hw=(PARTS_PX, PARTS_PX)).multiply_adds
        spent_ms, own_adds = report.latencies[name].min_ms - before_ms, adds - before_adds
        row = {
            "part": name,
            "min_ms": round(spent_ms, 3),
            "million_multiply_adds": round(own_adds / 1e6, 1),
            "giga_multiply_adds_per_s": round(own_adds / spent_ms / 1e6, 1),
        }
        rows.append(row)
        if name != "peak":
            row["share"] = round(spent_ms / total_ms, 3)
            before_ms, before_adds = report.latencies[name].min_ms, adds
    return rows


def write_peak(path: Path) -> Path:
    """A convolution that is as fast as convolutions get: 3x3, 128 to 128 channels, on maps of 64 px.

    It reads three channels of the input like every network here, which is a thousandth of its work.
    """
    rng = np.random.default_rng(0)
    shapes = {"stem": (128, 3, 1, 1), "first": (128, 128, 3, 3), "second": (128, 128, 3, 3)}
    nodes, last = [], "images"
    for name, shape in shapes.items():
        pads = [shape[2] // 2] * 4
        steps = [10, 10] if name == "stem" else [1, 1]
        nodes.append(helper.make_node("Conv", [last, name], [f"{name}_map"], pads=pads, strides=steps))
        last = f"{name}_map"
    side = PARTS_PX // 10
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, PARTS_PX, PARTS_PX])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 128, side, side])],
        [
            numpy_helper.from_array(rng.normal(0, 0.02, shape).astype(np.float32), name)
            for name, shape in shapes.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def innovation_costs(rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """The network without each innovation, over that with all; weights are random, which costs the same.

    What learns last (layers for tiny faces, second opinion) is left out.
    """
    files = {}
    for left_out in (None, *INNOVATIONS):
        model = build_model("v2-ultra", innovations=[name for name in INNOVATIONS if name != left_out]).eval()
        name = "all" if left_out is None else f"without {left_out}"
        files[name] = folder / f"{left_out}.onnx"
        export_onnx(model, files[name], info=info_of_module(model), fixed_hw=(PARTS_PX, PARTS_PX))
    report = measure_latency(files, input_hw=(PARTS_PX, PARTS_PX), rounds=rounds)
    return compared(report, "all")


def draw_scene(folder: Path) -> RgbImage:
    """A scene with faces, the same every time."""
    synthesize_dataset(folder, **SynthesizeConfig(num_train=1, num_val=1).model_dump(), progress=False)
    return read_image(open_widerface(folder, "val")[0].path)


def find_yunet(folder: Path | None) -> Path | None:
    """The file of YuNet in a folder of peers."""
    found = sorted((folder or DEFAULT_PEERS).glob(f"{YUNET}*.onnx"))
    if folder is not None and not found:
        raise SystemExit(f"{folder}: holds no {YUNET}*.onnx")
    return found[0] if found else None


def machine() -> Mapping[str, Any]:
    """What the times were taken on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="an exported student; default: the one that ships")
    parser.add_argument("--peers", type=Path, help=f"folder with {YUNET}*.onnx; default: ./{DEFAULT_PEERS}")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--skip-innovations", action="store_true", help="six exports take most of the time")
    arguments = parser.parse_args()
    yunet = find_yunet(arguments.peers)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = arguments.model or stack.enter_context(as_file(shipped_weights()))
        image = draw_scene(folder / "scene")
        report: dict[str, Any] = {
            "image_hw": image.shape[:2],
            "speed": speed(model, yunet, image, arguments.rounds),
            "parts": parts(model, arguments.rounds, folder),
        }
        if not arguments.skip_innovations:
            report["innovations"] = innovation_costs(arguments.rounds, folder)
    report |= {"rounds": arguments.rounds, "machine": machine()}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

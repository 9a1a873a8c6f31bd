"""How long exported networks take on a CPU, side by side.

The files take turns, so that whatever else the machine does meets all of them alike, and ratios hold where
milliseconds do not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from featherface.errors import ModelError, OptionError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Latency:
    """Times of one file."""

    median_ms: float
    p90_ms: float
    min_ms: float

    @classmethod
    def of(cls, times_ms: list[float]) -> Latency:
        """Summarize the times of single runs."""
        return cls(statistics.median(times_ms), float(np.percentile(times_ms, 90)), min(times_ms))


@dataclass(frozen=True)
class LatencyReport:
    """Times of several files from one interleaved run."""

    latencies: dict[str, Latency]
    input_hw: tuple[int, int]
    num_threads: int
    rounds: int
    times_ms: dict[str, list[float]]
    """Every run, by round: what ratios are made of."""

    def ratio(self, name: str, baseline: str) -> float:
        """Median over the rounds of one file's time over another's in the same round."""
        pairs = zip(self.times_ms[name], self.times_ms[baseline], strict=True)
        return statistics.median(time_ms / baseline_ms for time_ms, baseline_ms in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the single runs."""
        return {
            "latency_ms": {name: asdict(latency) for name, latency in self.latencies.items()},
            "input_hw": list(self.input_hw),
            "num_threads": self.num_threads,
            "rounds": self.rounds,
            "onnxruntime": ort.__version__,
        }


Runner = Callable[["npt.NDArray[np.float32]"], object]
"""Anything that takes (1, 3, H, W) network input: a backend, say."""


def measure_latency(
    models: Mapping[str, Path | str | Runner],
    *,
    input_hw: tuple[int, int] = (640, 640),
    rounds: int = 30,
    warmup_rounds: int = 3,
    num_threads: int = 1,
    seed: int = 0,
) -> LatencyReport:
    """Run each file once a round, in an order that is shuffled every round, and time each run.

    Any ONNX file with one image input (B, 3, H, W) works, so peers are measured in the same way; a side that
    a file fixes is kept, the others are `input_hw`. Preprocessing and decoding are not in the times.

    Args:
        models: name to .onnx file, or to a function of (1, 3, H, W) network input; its threads are its own.
        input_hw: height and width of the input in pixels.
        rounds: timed runs of each file.
        warmup_rounds: runs before, which are thrown away.
        num_threads: threads of each network.
        seed: of the noise that the networks see, and of the order.

    Raises:
        ModelError: a file that is missing, broken, or has another kind of input.
        OptionError: no files, or no rounds.
    """
    if not models or rounds < 1 or warmup_rounds < 0 or num_threads < 1:
        raise OptionError(
            f"latency needs files, rounds and threads, got {len(models)} files, {rounds} rounds after "
            f"{warmup_rounds}, and {num_threads} threads"
        )
    rng = np.random.default_rng(seed)
    runs: dict[str, Callable[[], object]] = {
        name: (
            partial(model, _noise((1, 3, *input_hw), rng))
            if callable(model)
            else _run_of_file(Path(model), input_hw, num_threads, rng)
        )
        for name, model in models.items()
    }
    names = list(runs)
    times_ms: dict[str, list[float]] = {name: [] for name in names}
    for round_index in range(-warmup_rounds, rounds):
        for name in rng.permutation(names):
            elapsed_ms = _time_ms(runs[name])
            if round_index >= 0:
                times_ms[name].append(elapsed_ms)
    latencies = {name: Latency.of(times) for name, times in times_ms.items()}
    return LatencyReport(latencies, input_hw, num_threads, rounds, times_ms)


def _run_of_file(
    path: Path, input_hw: tuple[int, int], num_threads: int, rng: np.random.Generator
) -> Callable[[], object]:
    """One file with its input, ready to be timed."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads that spin would take the core from the file whose turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{path}: is no ONNX file that can be run: {reason}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        raise ModelError(
            f"{path}: one float input (B, 3, H, W) is needed, got "
            f"{[(item.name, item.type, item.shape) for item in inputs]}"
        )
    wanted = (1, 3, *input_hw)
    shape = [
        side if isinstance(side, int) else free for side, free in zip(inputs[0].shape, wanted, strict=True)
    ]
    return partial(session.run, None, {inputs[0].name: _noise(shape, rng)})


def _noise(shape: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return rng.integers(0, 256, size=shape).astype(np.float32) - 114


def _time_ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000

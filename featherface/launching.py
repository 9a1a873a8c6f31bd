"""`torchrun`, which starts the processes of one training; what they do together is in `parallel`.

torch is imported only where several processes are asked for: most stages need none, and it takes seconds.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from featherface.child_process import module_command

REFUSED = 2
"""The exit code of a process that has said in a line what was wrong with its input."""
_LOGGER = logging.getLogger(__name__)


def launched_rank() -> int:
    """Number that `torchrun` gave this process, known before a training joins it with the others; 0 alone."""
    return int(os.environ.get("RANK", "0"))


def become_processes(
    number: int, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> None:
    """Go on as `torchrun` with that many processes of `python -m featherface ARGUMENTS`; does not return.

    Processes that `torchrun` started already stay what they are, and so does one that would be alone: on a
    machine with GPUs there is one process for each at most.

    Args:
        number: of processes.
        arguments: of `featherface` in each.
        environment: what they are told besides what this process was.
    """
    if number == 1 or "RANK" in os.environ:
        return
    number = _processes_that_fit(number)
    if number == 1:
        return
    # torchrun would set it too, and say so at length; the training sets its own number of threads anyway.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = ["--standalone", f"--nproc-per-node={number}", "-m", "featherface", *arguments]
    command = module_command(__name__, *options)
    os.execve(sys.executable, command, {**os.environ, **(environment or {})})  # noqa: S606 - our own interpreter


def _processes_that_fit(number: int) -> int:
    """That number, or the number of GPUs where there are fewer; CPUs take any number."""
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 < num_gpus < number:
        return number
    _LOGGER.warning(
        "num_processes is %d, this machine has %d GPU%s: training in %s",
        number,
        num_gpus,
        "" if num_gpus == 1 else "s",
        "one process with whole batches" if num_gpus == 1 else f"{num_gpus} processes",
    )
    return num_gpus


def _launch() -> None:
    """Be `torchrun`, but do not bury what a process said at its end under a report."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.ERROR)  # which process it ends, and why
    try:
        run.main()
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        if REFUSED in codes.values():
            sys.exit(REFUSED)
        sys.exit(_how_it_ended(codes))


def _how_it_ended(exit_codes: Mapping[int, int]) -> str:
    """Of the process that ended by itself; the others were ended with SIGTERM for it."""
    rank = next((rank for rank, code in exit_codes.items() if code != -signal.SIGTERM), min(exit_codes))
    code = exit_codes[rank]
    how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    return f"process {rank} of this training ended early ({how})"


if __name__ == "__main__":
    _launch()

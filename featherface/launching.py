"""`torchrun`, which starts the processes of one training; what they do together is in `parallel`.

Nothing here imports torch: most stages need none, and it takes seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from featherface.child_process import module_command


def launched_rank() -> int:
    """Number that `torchrun` gave this process, known before a training joins it with the others; 0 alone."""
    return int(os.environ.get("RANK", "0"))


def become_processes(number: int, arguments: Sequence[str]) -> None:
    """Go on as `torchrun` with that many processes of `python -m featherface ARGUMENTS`; does not return.

    Processes that `torchrun` started already stay what they are.
    """
    if "RANK" in os.environ:
        return
    # torchrun would set it too, and say so at length; the training sets its own number of threads anyway.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = ["--standalone", f"--nproc-per-node={number}", "-m", "featherface", *arguments]
    os.execv(sys.executable, module_command("torch.distributed.run", *options))  # noqa: S606 - our own interpreter

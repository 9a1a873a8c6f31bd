"""Where the tasks of a flow run: processes of this machine, or a cluster. The one place that says so."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Literal

from prefect.exceptions import TerminationSignal
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from featherface.child_process import end_with_pool
from featherface.errors import EndedEarlyError

Runner = Literal["processes", "dask", "ray"]


@contextmanager
def task_pool(runner: Runner, workers: int | None) -> Iterator[TaskRunner[Any]]:
    """Run so many tasks at once; stopped (Ctrl-C, SIGTERM), it waits for none of this machine.

    Args:
        runner: `dask` and `ray` use the cluster at `DASK_SCHEDULER_ADDRESS` or `RAY_ADDRESS`; without one
            they start their own on this machine.
        workers: processes; None: one a core.

    Raises:
        EndedEarlyError: one of the processes was killed.
    """
    with _task_runner(runner, workers or os.cpu_count() or 1) as pool:
        try:
            yield pool
        except (KeyboardInterrupt, SystemExit, TerminationSignal):
            for worker in multiprocessing.active_children():
                worker.kill()  # what it had finished is kept
            _leave_messages(pool)
            raise
        except BrokenProcessPool as error:
            raise EndedEarlyError(
                "a process of this run was killed, for want of memory perhaps; what is finished is kept: run "
                "the same command again, with fewer --workers if it happens again"
            ) from error


def _leave_messages(pool: TaskRunner[Any]) -> None:
    """Wait for nobody to write into the queue of the processes: one that was killed at that has its lock."""
    queue = getattr(pool, "_subprocess_message_queue", None)  # Prefect's own; clusters have none
    if queue is not None:
        queue.cancel_join_thread()


def _task_runner(runner: Runner, workers: int) -> TaskRunner[Any]:
    chosen: TaskRunner[Any]
    match runner:
        case "processes":
            # Killed, the flow tells them nothing: they would train on where the next run works.
            chosen = ProcessPoolTaskRunner(max_workers=workers, initializer=end_with_pool)
        case "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            address = os.environ.get("DASK_SCHEDULER_ADDRESS")
            own = {"n_workers": workers, "threads_per_worker": 1}
            chosen = DaskTaskRunner(address=address, cluster_kwargs=None if address else own)
        case "ray":
            from prefect_ray.task_runners import RayTaskRunner

            address = os.environ.get("RAY_ADDRESS")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported home unless asked
            chosen = RayTaskRunner(address=address, init_kwargs=None if address else {"num_cpus": workers})
    return chosen

# SPDX-License-Identifier: Apache-2.0
"""Workers through Ray, on this machine or on a cluster; the only file that knows Ray.

Ray is the optional extra ``hydra_ros[ray]``. A Ray that is started here listens on the loopback
interface alone, asks for a token, shows no dashboard, reports no usage, keeps its files in a
folder of its own, and ends with the crew or with this process. One that is joined is left as it
is, but for the workers.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra_model.workers.batches import Batch, BatchDone, ChunkNews
from hydra_model.workers.crew import Crew, WorkerLost
from hydra_model.workers.packed_states import PackedState
from hydra_model.workers.worker import Recipe, Worker

logger = logging.getLogger(__name__)

# Seconds within which a worker must have loaded the weights, a free place included.
HIRE_SECONDS = 600.0
# Seconds within which a cluster must answer, and within which it must be joined or started.
CONNECT_SECONDS = 5.0
START_SECONDS = 120.0
# Seconds that the end of Ray is waited for.
STOP_SECONDS = 20.0

# Of a Ray that is started here; what a user has set stays. The last makes it listen on the
# loopback interface, as Ray does by default on other systems than Linux.
LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
# Ray's own handlers end the program that it is a part of by SIGABRT, on a SIGTERM.
OWN_SIGNALS = "RAY_DISABLE_FAILURE_SIGNAL_HANDLER"


class RayUnavailable(RuntimeError):
    """There is no Ray that could be used; the message says why and what would help."""


def ray_installed() -> bool:
    """Return whether the extra is installed."""
    return importlib.util.find_spec("ray") is not None


@dataclass(frozen=True)
class RayCrew:
    """A crew, and how to end it and what was started for it. ``gpus``: each worker has one."""

    crew: Crew
    count: int
    gpus: bool
    keeper: _Keeper

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        self.crew.close()
        self.keeper.stop()

    def __enter__(self) -> Crew:
        return self.crew

    def __exit__(self, *_: object) -> None:
        self.close()


def open_crew(recipe: Recipe, *, workers: int = 0, address: str = "", weights: str = "") -> RayCrew:
    """Start workers on this machine, or on the Ray cluster that this machine belongs to.

    ``address`` is HOST:PORT of the cluster, or "auto" for the one that was started on this
    machine; "" starts a Ray for the workers alone. ``workers`` 0 takes as many as the cluster
    has GPUs, or else processors. Where there are GPUs, and ``recipe`` does not say "cpu", every
    worker has one of its own; otherwise one processor. ``weights`` is the fingerprint that
    their weights must have. Returns before the workers are there.

    Raises:
        RayUnavailable: Ray is not installed, cannot be started or joined, or has no room.
        ValueError: an address of another form, or no workers at all.
    """
    if not ray_installed():
        raise RayUnavailable("Ray is not installed: pip install 'hydra_ros[ray]'")
    if "://" in address:
        raise ValueError(
            f"Ray's address is {address!r}; accepted: HOST:PORT of a cluster that this machine "
            "belongs to (ray start --address=HOST:PORT), or auto"
        )
    if address and address != "auto":
        _check_reachable(address)
    if not address and workers < 1:
        raise ValueError(f"{workers} workers on this machine; accepted: 1 or more")
    keeper = _Keeper(address, workers, local_gpus=_local_gpus(recipe))
    keeper.start()
    try:
        count, gpus = _places(keeper, recipe, workers)
    except BaseException:
        keeper.stop()
        raise
    # The one GPU that a worker is given is all that it sees, whatever its number here.
    device = "cpu" if recipe.device == "cpu" else "cuda" if gpus else "auto"
    recipe = dataclasses.replace(recipe, device=device)
    crew = Crew(lambda number: RayHand(recipe, weights, gpu=gpus), count)
    return RayCrew(crew=crew, count=count, gpus=gpus, keeper=keeper)


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens: Ray would try for ever."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"Ray's address is {address!r}; accepted: HOST:PORT, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RayUnavailable(f"Ray cannot be joined at {address}: {error}") from error


def _local_gpus(recipe: Recipe) -> int:
    import torch

    return 0 if recipe.device == "cpu" else torch.cuda.device_count()


def _places(keeper: _Keeper, recipe: Recipe, wanted: int) -> tuple[int, bool]:
    """Return how many workers there can be, and whether each has a GPU."""
    resources = keeper.resources
    gpus = 0 if recipe.device == "cpu" else int(resources.get("GPU", 0))
    room = gpus or int(resources.get("CPU", 0))
    if room < 1:
        raise RayUnavailable(f"the Ray cluster at {keeper.address} has no processors to offer")
    if wanted > room:
        kind = "GPUs" if gpus else "processors"
        logger.warning("%d workers wanted, %d %s there: going on with %d", wanted, room, kind, room)
    return min(wanted or room, room), gpus > 0


class RayWorker:
    """The actor: a ``Worker`` in a process that Ray started."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def load(self, recipe: Recipe, weights: str) -> int:
        """Load the weights; returns the process id."""
        self._worker = Worker(recipe.load(), weights)
        return os.getpid()

    def missing(self, state: PackedState) -> list[str]:
        return self._loaded.missing(state)

    def accept(self, state: PackedState, contents: Mapping[str, bytes]) -> None:
        self._loaded.accept(state, contents)

    def imagine(self, batch: Batch) -> Iterator[list[ChunkNews] | BatchDone]:
        yield from self._loaded.imagine(batch)

    def cancel(self, number: int) -> None:
        self._loaded.cancel(number)

    @property
    def _loaded(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("the worker was not told what to load")
        return self._worker


class RayHand:
    """A worker that Ray runs; a ``crew.Hand``. ``pid`` is its process on its machine."""

    def __init__(self, recipe: Recipe, weights: str, *, gpu: bool) -> None:
        import ray

        options = {
            "num_cpus": 1,
            "num_gpus": 1 if gpu else 0,
            "max_restarts": 0,  # the crew starts another, which first has to load
            "max_concurrency": 1,
            "concurrency_groups": {"control": 1},  # cancels come beside what runs
        }
        self._actor: Any = ray.remote(**options)(RayWorker).remote()
        self._load = recipe, weights
        self.pid = 0

    def begin(self) -> None:
        import ray

        ref = self._actor.load.remote(*self._load)
        self.pid = self._answer(lambda: ray.get(ref, timeout=HIRE_SECONDS))

    def missing(self, state: PackedState) -> list[str]:
        missing: list[str] = self._call("missing", state)
        return missing

    def accept(self, state: PackedState, contents: Mapping[str, bytes]) -> None:
        self._call("accept", state, contents)

    def imagine(self, batch: Batch) -> Iterator[list[ChunkNews] | BatchDone]:
        import ray

        method = self._actor.imagine.options(num_returns="streaming")
        stream = self._answer(lambda: iter(method.remote(batch)))
        while True:
            ref = self._answer(lambda: next(stream, None))
            if ref is None:
                return
            yield self._answer(lambda ref=ref: ray.get(ref))  # type: ignore[misc]

    def cancel(self, number: int) -> None:
        with suppress(Exception):  # where it is gone, nothing runs
            self._actor.cancel.options(concurrency_group="control").remote(number)

    def dismiss(self) -> None:
        import ray

        with suppress(Exception):
            ray.kill(self._actor)

    def _call(self, method: str, *arguments: Any) -> Any:
        import ray

        return self._answer(lambda: ray.get(getattr(self._actor, method).remote(*arguments)))

    def _answer(self, call: Callable[[], Any]) -> Any:
        """Return what a call of Ray's does; raise what the worker raised, or ``WorkerLost``."""
        from ray.exceptions import RayError, RayTaskError

        try:
            return call()
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else RuntimeError(str(error))
            raise cause from None
        except RayError as error:
            raise WorkerLost(_first_line(error)) from error


class _Keeper:
    """Keeps Ray on a thread of its own, which ends last.

    Not the main thread, whose signals Ray would take over. And one that stays: on Linux the
    processes that Ray starts end with the thread that started them.
    """

    def __init__(self, address: str, workers: int, local_gpus: int) -> None:
        self.address = address
        self.resources: dict[str, float] = {}
        self._workers = workers
        self._gpus = local_gpus
        self._folder: Path | None = None
        self._error: Exception | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ray", daemon=True)

    def start(self) -> None:
        """Start or join Ray; raises ``RayUnavailable``."""
        self._thread.start()
        where = f"joined at {self.address}" if self.address else "started"
        if not self._ready.wait(START_SECONDS):
            self._stopping.set()  # should it come after all, it leaves again
            raise RayUnavailable(f"Ray cannot be {where}: no answer within {START_SECONDS:.0f} s")
        if self._error is not None:
            raise RayUnavailable(f"Ray cannot be {where}: {_first_line(self._error)}")

    def stop(self) -> None:
        """Leave Ray, and end it where it was started here."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _keep(self) -> None:
        if "ray" not in sys.modules:
            os.environ.setdefault(OWN_SIGNALS, "1")
        if not self.address and "ray" not in sys.modules:
            # Ray reads them when it is imported: a program that did so before has its own way.
            for name, value in LOCAL_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            import ray

            borrowed = ray.is_initialized()  # by the program that we are a part of
            if not borrowed:
                self._init(ray)
            self.resources = ray.cluster_resources()
        except Exception as error:
            self._error = error
            self._remove_folder()
            return
        finally:
            self._ready.set()
        self._stopping.wait()
        if not borrowed:
            with suppress(Exception):
                ray.shutdown()
        self._remove_folder()

    def _init(self, ray: Any) -> None:
        common = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address:
            ray.init(address=self.address, **common)
            return
        self._folder = Path(tempfile.mkdtemp(prefix="hydra-ray-", dir=_short_folder()))
        ray.init(
            address="local",
            num_cpus=self._workers,  # places for workers, which may share processors
            num_gpus=self._gpus,
            include_dashboard=False,
            _temp_dir=str(self._folder),
            **common,
        )

    def _remove_folder(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _short_folder() -> str:
    """Return the folder for temporary files, or /tmp: names of sockets may have 107 characters."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 20 else "/tmp"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

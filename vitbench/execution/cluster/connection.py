"""Is there a Ray cluster at this address? Connected to within seconds, or refused in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from vitbench.signals import Ended, HeldSignals

OLDEST = (2, 49)
"""Of Ray, with selectors of labels, by which runs are kept from nodes."""
TCP_SECONDS = 3.0
PROBE_SECONDS = 11.0
"""With TCP_SECONDS, below the 15 s after which an address that does not answer is refused; Ray's own limit is two minutes."""
_PROBE = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
"""
_REMEDY = "start a cluster with `ray start --head`, or leave it out to use this machine alone"


def import_ray() -> Any:
    """The module. Raises ValueError where Ray is not installed, or is too old."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("executor 'ray' needs Ray; install vitbench[ray] or use --executor local") from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ValueError(f"executor 'ray' needs Ray {oldest} or newer, and {ray.__version__} is installed; upgrade it")
    return ray


def connect(ray: Any, address: str | None, *, num_cpus: int | None) -> None:
    """Connects to the cluster at `address`, or starts one on this machine that has `num_cpus` slots.

    Raises ValueError where no cluster answers at `address`.
    """
    if address is not None:
        _check(ray, address)
    # Without an address, Ray would take whatever cluster was last started on this machine.
    where: dict[str, Any] = {"address": address} if address else {"address": "local", "num_cpus": num_cpus}
    if address is None:
        os.environ.setdefault("RAY_worker_niceness", "0")  # as local workers; Ray's 15 starves runs on a busy machine
    with HeldSignals():
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**where, include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR")
        except SystemExit as end:  # raised by the handler that Ray puts in place of ours
            raise Ended(128 + signal.SIGTERM) from end
        except Exception as error:  # a plain one, where its processes do not start in time
            if address is None:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(f"executor 'ray': Ray could not start here: {reason}; use --executor local") from error
            raise _refused(address, str(error)) from error
        finally:
            signal.signal(signal.SIGTERM, handler)
    _silence(ray)


def _silence(ray: Any) -> None:
    """Keeps Ray from printing a dead node's log on stdout; what became of its run is said in a line of ours.

    Ray has no option for it. Where its insides have other names, it prints.
    """
    with contextlib.suppress(AttributeError):
        worker = ray._private.worker
        if callable(worker.print_to_stdstream):
            worker.print_to_stdstream = lambda *_, **__: None


def _check(ray: Any, address: str) -> None:
    """Raises ValueError where no cluster of this Ray answers. In a process of its own: `ray.init` cannot be interrupted."""
    if address.startswith("ray://"):
        raise ValueError(
            f"ray-address {address!r} is Ray Client's; give the cluster's own, HOST:6379, on one of its machines "
            "(from elsewhere: `ray job submit`)"
        )
    if address != "auto":
        _check_port(address)
    command = [sys.executable, "-c", _PROBE, address]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as probe:
        try:
            _, errors = probe.communicate(timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            raise _refused(address, f"no cluster of Ray {ray.__version__} answers there") from None
        finally:
            probe.kill()
    if probe.returncode:
        lines = [line for line in errors.splitlines() if line.strip() and not line.startswith(("[", "***", "  "))]
        raise _refused(address, lines[-1] if lines else "no cluster answers there")


def _check_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"ray-address {address!r} is no address; give HOST:PORT, as `ray start` prints it, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=TCP_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _refused(address, str(error)) from error


def _refused(address: str, reason: str) -> ValueError:
    return ValueError(f"ray-address {address!r} cannot be reached: {' '.join(reason.split())[:200]}; {_REMEDY}")


def chosen_address(option: str | None) -> str | None:
    """`--ray-address`, else `RAY_ADDRESS`; None starts a cluster on this machine, as `local` does."""
    address = option or os.environ.get("RAY_ADDRESS") or None
    return None if address == "local" else address

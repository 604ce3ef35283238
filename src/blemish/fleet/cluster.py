"""The connection to Ray: processes of its own on this machine, or a cluster at an address."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blemish.errors import SettingsError

CONNECT_S = 5.0
"""How long an address may take to answer at all."""
HEALTH_S = 60.0
"""How long what answers there may take to say which Ray it is; starting to ask takes seconds on a busy machine."""
BEGIN_S = 300.0
"""How long a cluster may take to give a free processor."""
STARTS = 3
"""How often it is started; Ray gives a machine half a minute for that, which a busy one may not keep."""
STORE_BYTES = 200_000_000
"""Of Ray's object store on one machine; rows without pixels are small."""
_SETTINGS = {
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_LOG_TO_DRIVER": "0",
    "RAY_TQDM": "0",
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
}
"""Ray reports to nobody, prints nothing over what a command prints, has the command's priority, and time to start.

It is never started by itself: a thread that is still reading when a command was interrupted would start another one.
"""


def load_ray() -> Any:
    """The module `ray`, set to be quiet.

    Raises:
        SettingsError: it is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise SettingsError(f"the fleet needs the package '{error.name}'; pip install 'blemish[fleet]'") from None
    # How actors are restarted can be said in this way alone until Ray 2.64; the extra pins 2.60.
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", DeprecationWarning)
    return ray


@contextmanager
def connected(address: str | None = None, cpus: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected; disconnected at the end, and what was started on this machine is stopped.

    Without an address Ray is started here with so many processors (None: all). Whoever is connected already stays so.

    Raises:
        SettingsError: Ray is not installed, or there is no cluster of this version at the address.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": "local", "num_cpus": cpus, "object_store_memory": STORE_BYTES}
    options["include_dashboard"] = False
    if address is not None:
        check_address(address)
        options = {"address": address}
    before = signal.getsignal(signal.SIGTERM)
    for attempt in range(STARTS):
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
            break
        except Exception as error:  # Ray's own are of any kind
            ray.shutdown()
            if attempt + 1 < STARTS and "timed out during startup" in str(error):
                continue
            said = " ".join(str(error).split())[:400]
            where = "this machine" if address is None else f"--address {address}"
            raise SettingsError(f"{where}: Ray cannot be used: {said}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # Ray's own ends with exit code 15 and without a word
    try:
        yield ray
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Refuse an address at which no Ray of this version is; Ray itself may wait for it for minutes.

    Raises:
        SettingsError: as said.
    """
    host, _, port = address.rpartition(":")
    if "//" in address or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(f"--address {address}: expected HOST:PORT of the cluster's head, such as 10.0.0.5:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise SettingsError(
            f"--address {address}: nothing answers there ({error}); start a cluster with "
            "`ray start --head --port=6379`, or leave out --address to use this machine alone"
        ) from None
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=HEALTH_S, check=False)
    except subprocess.TimeoutExpired:
        raise SettingsError(f"--address {address}: what answers there is no Ray cluster") from None
    if answer.returncode:
        said = [line for line in (answer.stdout + answer.stderr).splitlines() if "mismatch" in line.lower()]
        why = said[-1].partition(": ")[2] if said else "what answers there is no Ray cluster"
        raise SettingsError(f"--address {address}: {why.strip()}")


def wait_for_processors(ray: Any, number: int) -> int:
    """How many processors the cluster has, when so many on one machine are free.

    Raises:
        SettingsError: it has fewer, or none is free for `BEGIN_S` seconds.
    """
    found = int(ray.cluster_resources().get("CPU", 0))
    most = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
    if most < number:
        raise SettingsError(f"no machine of the cluster has {number} processors, at most {most}; see --threads")
    try:
        ray.get(ray.remote(num_cpus=number)(lambda: None).remote(), timeout=BEGIN_S)
    except ray.exceptions.GetTimeoutError:
        raise SettingsError(
            f"no processor of the cluster was free for {BEGIN_S:.0f} s; see `ray status` for who uses them"
        ) from None
    return found

"""`blemish fleet serve`: the models of a registry behind one address, with Ray Serve."""

import asyncio
import logging
import signal
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from blemish.data.files import absolute_path
from blemish.errors import BlemishError, DataError, SettingsError, plural
from blemish.fleet.answer import MIB, judge_content, read_body, read_query, refuse
from blemish.fleet.cluster import connected, load_ray
from blemish.fleet.registry import NAME, Registry, open_registry
from blemish.fleet.tasks import Needs, check_needs
from blemish.inference.predictor import Predictor

APP = "blemish"
STARTS_S = 300.0
PATIENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60"}
"""How long Ray Serve waits for its own processes; of themselves 5 and 10 seconds, which a busy machine may not keep."""

Say = Callable[[str], None]


@final
class Serving(NamedTuple):
    """What is served where, and within which bounds."""

    registry: Path
    host: str = "127.0.0.1"
    port: int = 8743
    address: str | None = None
    replicas: int = 1
    threads: int = 1
    models: int = 8
    """A process keeps so many open, those used last."""
    batch: int = 8
    wait_ms: float = 5.0
    queue: int = 64
    """Images that may wait beside those being judged."""
    max_mib: int = 64

    @property
    def most(self) -> int:
        """Images that are in here at most."""
        return self.queue + self.replicas * self.batch * 2


def serve_registry(
    wanted: Serving,
    say: Say,
    stop: threading.Event = threading.Event(),  # noqa: B008
) -> None:
    """Serve until Ctrl-C, a polite kill, or `stop`; then nothing that was started is left.

    Raises:
        DataError: no registry; the port is occupied.
        SettingsError: Ray is missing or not at the address, or too small; it serves something else.
    """
    products = open_registry(wanted.registry).products
    wanted = wanted._replace(registry=absolute_path(wanted.registry), port=_free_port(wanted))
    is_ours = wanted.address is None and not load_ray().is_initialized()  # it ends with all that runs in it
    with connected(wanted.address) as ray:
        _check_room(ray, wanted)
        from ray import serve

        if others := set(serve.status().applications) - {APP}:
            raise SettingsError(f"--address {wanted.address}: serves {sorted(others)[0]} already; use another cluster")
        before = signal.getsignal(signal.SIGTERM)
        try:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            address = _start(serve, wanted)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.default_int_handler)
            with suppress(KeyboardInterrupt):  # from before anyone can have read that it works
                say(f"{plural(len(products), 'product')} at {address}; Ctrl-C ends it")
                while not stop.wait(3600.0):
                    pass
        finally:
            if not is_ours:
                serve.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)


def _start(serve: Any, wanted: Serving) -> str:
    """The address, at which requests are answered when this returns.

    Raises:
        DataError: it does not come up.
    """
    with suppress(TimeoutError):  # after a minute, which a busy machine may need; it is waited for below
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": wanted.host, "port": wanted.port},
            logging_config={"log_level": "ERROR", "enable_access_log": False},
            controller_options={"runtime_env": {"env_vars": PATIENT}},
        )
    try:
        serve.run(application(serve, wanted), name=APP, route_prefix="/")
    except RuntimeError as error:
        raise DataError(f"{wanted.registry}: cannot be served: {' '.join(str(error).split())[:400]}") from None
    head = wanted.host if wanted.address is None else wanted.address.rpartition(":")[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(head, head)
    address = f"http://{f'[{host}]' if ':' in host else host}:{wanted.port}/"
    deadline = time.monotonic() + STARTS_S
    while not _answers(f"{address}healthz"):
        if time.monotonic() > deadline:
            raise DataError(f"{address}: does not answer after {STARTS_S:.0f} seconds")
        time.sleep(0.1)
    return address


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _check_room(ray: Any, wanted: Serving) -> None:
    """Refuse more processes than there are processors, for which Ray would wait for ever."""
    check_needs(ray, Needs(threads=wanted.threads))
    free = int(ray.cluster_resources().get("CPU", 0.0))
    if wanted.replicas * wanted.threads > free:
        asked = f"--replicas {wanted.replicas} of --threads {wanted.threads}"
        raise SettingsError(f"{asked}: the cluster has {plural(free, 'processor')}")


def _free_port(wanted: Serving) -> int:
    """The port, or for 0 one that is free.

    Raises:
        DataError: it is occupied.
    """
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if wanted.address is None:
                probe.bind((wanted.host, wanted.port))
                return int(probe.getsockname()[1])
            return wanted.port
    except OSError as error:
        raise DataError(f"{wanted.host}:{wanted.port}: cannot be served on: {error.strerror}; give --port") from None


def build(args: dict[str, Any]) -> Any:
    """The application from the `args` of a Serve configuration, named as in `Serving`; for Kubernetes."""
    from ray import serve

    return application(serve, Serving(**{**args, "registry": Path(args["registry"])}))


def application(serve: Any, wanted: Serving) -> Any:
    """The two deployments: one that answers requests, and processes that judge."""

    class Judging:
        """A process that judges, with the models used last; images of one model that come together are one batch."""

        @serve.multiplexed(max_num_models_per_replica=wanted.models)  # type: ignore[untyped-decorator]
        async def model(self, model_id: str) -> Predictor:
            product, _, sha256 = model_id.rpartition("@")
            path = open_registry(wanted.registry).model(product).path
            return await asyncio.to_thread(Predictor.load, path, "cpu", wanted.threads, sha256=sha256)

        @serve.batch(max_batch_size=wanted.batch, batch_wait_timeout_s=wanted.wait_ms / 1000.0)  # type: ignore[untyped-decorator]
        async def judge(self, images: list[tuple[str, str, bytes]]) -> list[dict[str, Any]]:
            predictor = await self.model(images[0][0])
            return await asyncio.to_thread(
                lambda: [judge_content(predictor, name, content) for _, name, content in images]
            )

    judging = serve.deployment(
        Judging,
        num_replicas=wanted.replicas,
        max_ongoing_requests=wanted.batch * 2,
        max_queued_requests=wanted.queue,
        ray_actor_options={
            "num_cpus": wanted.threads,
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(wanted.threads)}},
        },
    )
    front = serve.deployment(Front, max_ongoing_requests=10 * wanted.most + 100, ray_actor_options={"num_cpus": 0})
    return front.bind(judging.bind(), wanted)


@final
class Front:
    """Answers requests: what is asked too much is refused at once, all else is judged by the processes behind."""

    def __init__(self, judging: Any, wanted: Serving) -> None:
        self._judging, self._wanted = judging, wanted
        self._max_bytes = wanted.max_mib * MIB
        self._inside = 0
        self._registry: tuple[dict[Path, int], Registry] | None = None
        self._answered: Counter[tuple[str, str]] = Counter()

    async def __call__(self, request: Request) -> Response:
        """One request."""
        match request.method, request.url.path:
            case "POST", "/api/v1/predict":
                return await self._counted(request)
            case "GET", "/api/v1/products":
                return await self._products()
            case "GET", "/healthz":
                return PlainTextResponse("ok\n")
            case "GET", "/readyz":
                found = await self._products()
                return JSONResponse({"problems": []}) if found.status_code == 200 else found
            case "GET", "/metrics":
                return PlainTextResponse(self._metrics(), media_type="text/plain; version=0.0.4")
        await read_body(request, self._max_bytes, keep=False)
        return refuse(404, f"{request.method} {request.url.path}: there is no such thing here")

    async def _counted(self, request: Request) -> Response:
        if self._inside >= self._wanted.most:
            self._answered["", "refused"] += 1
            said = refuse(503, f"images that wait already: {self._inside}; try again")
            await read_body(request, self._max_bytes, keep=False)
            return said
        self._inside += 1
        try:
            return await self._predict(request)
        finally:
            self._inside -= 1

    async def _predict(self, request: Request) -> Response:
        from ray.serve.exceptions import BackPressureError

        try:
            content = await read_body(request, self._max_bytes)
            asked = read_query(request)
            if content is None:
                return refuse(413, f"the body is larger than {self._wanted.max_mib} MiB, which is the limit here")
            registry = await asyncio.to_thread(self._open)
            if asked.product not in registry.products:
                return refuse(404, f"product '{asked.product}': there is none")
            found = await asyncio.to_thread(registry.model, asked.product)
            model_id = f"{found.product}@{found.sha256}"
            response = self._judging.options(multiplexed_model_id=model_id).judge.remote(
                (model_id, asked.name, content)
            )
            answer = await asyncio.wait_for(_result(response), asked.wait_s)
        except SettingsError as error:
            return refuse(422, str(error))
        except (BackPressureError, TimeoutError) as error:
            self._answered["", "refused"] += 1
            why = "too many images wait" if isinstance(error, BackPressureError) else "not judged in that time"
            return refuse(503, f"{why}; try again")
        except BlemishError as error:  # the registry or a model is damaged, or was exchanged just now
            return refuse(503, str(error))
        self._answered[asked.product, answer["verdict"]] += 1
        return JSONResponse(answer, 422 if "error" in answer else 200)

    async def _products(self) -> Response:
        try:
            return JSONResponse({"products": (await asyncio.to_thread(self._open)).products})
        except BlemishError as error:
            return refuse(503, str(error))

    def _open(self) -> Registry:
        """The registry, read again when it was written again."""
        folder = self._wanted.registry
        listed = folder / NAME
        try:
            seen = [listed] if listed.exists() else [folder, *(one for one in folder.iterdir() if one.is_dir())]
            stamp = {path: path.stat().st_mtime_ns for path in seen}
        except OSError as error:
            raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
        if self._registry is None or stamp != self._registry[0]:
            self._registry = stamp, open_registry(folder)
        return self._registry[1]

    def _metrics(self) -> str:
        """What Prometheus collects."""
        from prometheus_client import CollectorRegistry, Gauge, generate_latest
        from prometheus_client import Counter as Total

        registry = CollectorRegistry()
        decided = Total("blemish_decisions", "Images decided.", ["product", "verdict"], registry=registry)
        refused = Total("blemish_refused", "Images answered with 503.", registry=registry)
        for (product, verdict), count in self._answered.items():
            (decided.labels(product, verdict) if product else refused).inc(count)
        Gauge("blemish_queue_images", "Images that are in here.", registry=registry).set(self._inside)
        return generate_latest(registry).decode()


async def _result(response: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await response
    return answer

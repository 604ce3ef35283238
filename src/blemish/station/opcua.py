"""The last result of each product as OPC UA variables, for PLCs: a small address space with the names of OPC 40100-1
(machine vision). It is read only; the types of the companion specification themselves are not loaded.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, final
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import SettingsError
from blemish.station.database import Database, reason
from blemish.station.tables import Decision, Job, Product

if TYPE_CHECKING:
    from asyncua.common.node import Node
    from asyncua.server.server import Server

NAMESPACE = "urn:blemish:station"
LOOK_EVERY_S = 0.2
AGAIN_S = 10.0
"""After the server could not begin, it is tried again so much later."""
AT_ONCE = 200

COMPLETED, FAILED = 1, 4
"""Values of ResultState."""

Say = Callable[[str], None]
Value = str | bool | int | float | datetime

VARIABLES: tuple[tuple[str, str, Callable[[Decision, Product], Value]], ...] = (
    ("HasTransferableDataOnFile", "Boolean", lambda *_: False),
    ("IsPartial", "Boolean", lambda *_: False),
    ("IsSimulated", "Boolean", lambda *_: False),
    ("ResultState", "Int32", lambda decision, _: FAILED if decision.verdict == "unreadable" else COMPLETED),
    ("PartId", "String", lambda decision, _: decision.image_path),
    ("InternalRecipeId", "String", lambda decision, _: decision.model_sha256),
    ("ProductId", "String", lambda _, product: product.name),
    ("JobId", "String", lambda decision, _: str(decision.image_id)),
    ("CreationTime", "DateTime", lambda decision, _: datetime.fromisoformat(decision.decided_at)),
    ("Verdict", "String", lambda decision, _: decision.verdict),
    ("IsAnomalous", "Boolean", lambda decision, _: decision.verdict != "good"),
    ("IsDoubtful", "Boolean", lambda decision, _: decision.is_doubtful),
    ("Score", "Double", lambda decision, _: float("nan") if decision.score is None else decision.score),
    ("Threshold", "Double", lambda decision, _: decision.threshold),
    ("ResultId", "String", lambda decision, _: str(decision.id)),
)
"""Name, type and value of each variable of a result, in the order they are written: once the last one has changed,
all are of that result."""


@final
class ProductNodes(NamedTuple):
    """The variables of a product."""

    state: "Node"
    result: dict[str, "Node"]


def check_opcua(address: str) -> str:
    """An address that can be served at, `opc.tcp://host:port`; returns its host.

    Raises:
        SettingsError: it is none, or asyncua is not installed.
    """
    if find_spec("asyncua") is None:
        raise SettingsError("--opcua needs asyncua, which is not installed; install it: pip install 'blemish[opcua]'")
    try:
        parts = urlsplit(address)
        is_whole = parts.scheme == "opc.tcp" and bool(parts.hostname) and bool(parts.port) and parts.username is None
    except ValueError:
        is_whole = False
    if not is_whole:
        raise SettingsError(f"--opcua {address[:80]}: expected an address such as opc.tcp://127.0.0.1:4840")
    return str(parts.hostname)


def serve_opcua(database: Database, address: str, say: Say, stop: threading.Event) -> None:
    """Serve until told to stop; where the port is occupied it is said, and tried again."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    while not stop.is_set():
        try:
            asyncio.run(_serve(database, address, stop))
        except (OSError, SQLAlchemyError) as error:
            say(f"{address}: cannot be served: {reason(error)}; tried again")
            stop.wait(AGAIN_S)


async def _serve(database: Database, address: str, stop: threading.Event) -> None:
    """Begin a server, and write what is decided into its variables.

    Raises:
        OSError: the port is occupied.
        SQLAlchemyError: the database fails.
    """
    from asyncua import ua
    from asyncua.server.server import Server

    server = Server()
    await server.init()
    server.set_endpoint(address)
    server.set_server_name("blemish station")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    namespace = await server.register_namespace(NAMESPACE)
    nodes: dict[int, ProductNodes] = {}
    async with server:
        last: int | None = None
        while not stop.is_set():
            products, decisions, states = _look(database, last)
            for product in products.values():
                if product.id not in nodes:
                    nodes[product.id] = await _add_product(server, namespace, product)
                await nodes[product.id].state.write_value(states[product.id], ua.VariantType.String)
            for decision in decisions:
                await _write_result(nodes[decision.product_id], decision, products[decision.product_id])
            last = max([last or 0, *(decision.id for decision in decisions)])
            await asyncio.sleep(0.0 if len(decisions) == AT_ONCE else LOOK_EVERY_S)


def _look(database: Database, last: int | None) -> tuple[dict[int, Product], list[Decision], dict[int, str]]:
    """Products, decisions after `last` (the newest of each product at first), and the state of each product."""
    with database.read() as session:
        query = select(Decision).order_by(Decision.id)
        if last is None:
            newest = select(func.max(Decision.id)).where(Decision.id > 0).group_by(Decision.product_id)
            decisions = list(session.scalars(query.where(Decision.id.in_(newest))))
        else:
            decisions = list(session.scalars(query.where(Decision.id > last).limit(AT_ONCE)))
        products = {one.id: one for one in session.scalars(select(Product))}
        kept_waiting = set(session.scalars(select(Job.product_id).where(Job.trouble != "").distinct()))
    return products, decisions, {one.id: _state_of(one, one.id in kept_waiting) for one in products.values()}


def _state_of(product: Product, is_waiting: bool) -> str:
    """The state of the vision state machine of OPC 40100-1."""
    if product.model_id is None:
        return "Preoperational"
    return "Error" if is_waiting else "Operational"


async def _add_product(server: "Server", namespace: int, product: Product) -> ProductNodes:
    from asyncua import ua

    def node_id(name: str) -> "ua.NodeId":
        return ua.NodeId(ua.String(f"{product.id}.{name}"), ua.Int16(namespace))

    async def add_object(parent: "Node", name: str, shown: str = "") -> "Node":
        return await parent.add_object(node_id(name), ua.QualifiedName(shown or name, namespace))

    async def add_variable(parent: "Node", name: str, value: Any, kind: str) -> "Node":
        shown = ua.QualifiedName(name, namespace)
        return await parent.add_variable(node_id(name), shown, value, getattr(ua.VariantType, kind))

    top = await add_object(server.nodes.objects, "VisionSystem", product.name)
    machine = await add_object(top, "VisionStateMachine")
    state = await add_variable(machine, "CurrentState", "Preoperational", "String")
    results = await add_object(await add_object(top, "ResultManagement"), "Results")
    latest = await add_object(results, "LatestResult")
    empty: dict[str, Any] = {"Boolean": False, "Int32": 0, "String": "", "Double": 0.0}
    empty["DateTime"] = datetime.fromisoformat(product.created_at)
    variables = {name: await add_variable(latest, name, empty[kind], kind) for name, kind, _ in VARIABLES}
    return ProductNodes(state, variables)


async def _write_result(nodes: ProductNodes, decision: Decision, product: Product) -> None:
    from asyncua import ua

    for name, kind, value in VARIABLES:
        await nodes.result[name].write_value(value(decision, product), getattr(ua.VariantType, kind))

"""Decisions published to a broker of MQTT: in order, at least once, and with a last will that says when we are gone."""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, final

from aiomqtt import Client, MqttError, ProtocolVersion, Will
from sqlalchemy import select

import blemish
from blemish.errors import SettingsError
from blemish.station.brokers import Address, Login, Topics, discovery, login_of, parse_address, topics_of
from blemish.station.credentials import read_secret, secret_path
from blemish.station.database import Database, reason
from blemish.station.folder import StationFolder
from blemish.station.spool import ANSWER_S, LOOK_EVERY_S, Told, body_of, find_hook, note, unsent
from blemish.station.tables import Decision, Hook, Product

ALIVE_S = 10.0
"""A broker that has heard nothing for so long is told that we are here: so a connection that is lost is noticed."""

Say = Callable[[str], None]


@final
class Publisher(NamedTuple):
    """What is published, and where."""

    database: Database
    hook_id: int
    url: str
    address: Address
    topics: Topics
    login: Login


def publish_until(database: Database, folder: StationFolder, hook_id: int, say: Say, stop: threading.Event) -> None:
    """Publish what a broker was not told yet, again and again until told to stop.

    Raises:
        SQLAlchemyError: the database fails.
    """
    while not stop.is_set():
        hook = find_hook(database, hook_id)
        if hook is None:
            return
        try:
            address, topics = parse_address(hook.url), topics_of(hook, folder.id)
            publisher = Publisher(database, hook_id, hook.url, address, topics, login_of(database, hook_id))
            asyncio.run(_serve(folder, publisher, say, stop))
        except (SettingsError, MqttError, OSError, ValueError) as error:
            now = find_hook(database, hook_id)
            if now is not None:
                stop.wait(note(database, now, Told(now.delivered, reason(error)), say))


def _client(folder: StationFolder, publisher: Publisher) -> Client:
    """A client with its last will, not connected yet.

    Raises:
        SettingsError: the password or the certificate is not there.
    """
    address, login = publisher.address, publisher.login
    return Client(
        address.host,
        address.port,
        username=address.user,
        password=read_secret(folder, login.password_name) if login.password_name else None,
        identifier=f"blemish-{publisher.topics.station}-{publisher.hook_id}",
        protocol=ProtocolVersion.V311,
        will=Will(publisher.topics.status, "offline", qos=1, retain=True),
        tls_context=_tls(folder, login) if address.is_encrypted else None,
        timeout=ANSWER_S,
    )


def _tls(folder: StationFolder, login: Login) -> ssl.SSLContext:
    if not login.authority_name:
        return ssl.create_default_context()
    path = secret_path(folder, login.authority_name)
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError):
        raise SettingsError(f"authority '{login.authority_name}': {path} is no certificate (PEM)") from None


async def _serve(folder: StationFolder, publisher: Publisher, say: Say, stop: threading.Event) -> None:
    """Be connected, and publish, until told to stop, or until the hook is taken back.

    Raises:
        MqttError: the connection is lost, or there is none.
        SettingsError: the password or the certificate is not there.
    """
    announced: dict[int, str] = {}
    async with _client(folder, publisher) as client:
        heard_s = -ALIVE_S
        while not stop.is_set():
            if time.monotonic() - heard_s >= ALIVE_S:
                await client.publish(publisher.topics.status, "online", qos=1, retain=True)
                heard_s = time.monotonic()
            hook = find_hook(publisher.database, publisher.hook_id)
            if hook is None or hook.url != publisher.url:  # its number may be another one's by now
                break
            decisions = unsent(publisher.database, hook)
            products = await _announce(client, publisher, hook, announced)
            told = await _publish_all(client, publisher.topics, hook, decisions, products)
            if told.last != hook.delivered or not told.trouble:
                note(publisher.database, hook, Told(told.last), say)
            if told.trouble:
                raise MqttError(told.trouble)
            if not decisions:
                await asyncio.sleep(LOOK_EVERY_S)
        await client.publish(publisher.topics.status, "offline", qos=1, retain=True)


async def _announce(client: Client, publisher: Publisher, hook: Hook, announced: dict[int, str]) -> dict[int, Product]:
    """Tell Home Assistant of products that it was not told of on this connection; returns all that there are."""
    with publisher.database.read() as session:
        products = {one.id: one for one in session.scalars(select(Product))}
    for product in products.values():
        if hook.product_id in (None, product.id) and announced.get(product.id) != product.name:
            for topic, message in discovery(publisher.topics, publisher.login, product, blemish.__version__):
                await client.publish(topic, message, qos=1, retain=True)
            announced[product.id] = product.name
    return products


async def _publish_all(
    client: Client, topics: Topics, hook: Hook, decisions: list[Decision], products: dict[int, Product]
) -> Told:
    last = hook.delivered
    for decision in decisions:
        topic = topics.verdict(products[decision.product_id])
        try:
            await client.publish(topic, body_of(decision), qos=1, retain=True)  # returns when the broker has it
        except MqttError as error:
            return Told(last, reason(error))
        last = decision.id
    return Told(last)

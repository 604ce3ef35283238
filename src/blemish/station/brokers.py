"""Brokers of MQTT that are told of decisions: added, and what is published where."""

import json
import re
from typing import Any, NamedTuple, final
from urllib.parse import unquote, urlsplit

from blemish.errors import SettingsError
from blemish.station.connections import Broker
from blemish.station.credentials import check_name
from blemish.station.database import Database
from blemish.station.hooks import begin_hook
from blemish.station.tables import Hook, Product

PORTS = {"mqtt": 1883, "mqtts": 8883}

ENTITIES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("sensor", "verdict", {"icon": "mdi:magnify-scan"}),
    ("sensor", "score", {"state_class": "measurement"}),
    (
        "binary_sensor",
        "defect",
        {
            "device_class": "problem",
            "value_template": "{{ 'OFF' if value_json.verdict == 'good' else 'ON' }}",
        },
    ),
)
"""What Home Assistant shows of a product: its kind of entity, its name, and what else it is told of it."""


@final
class Address(NamedTuple):
    """Where a broker is, who logs in, and the topic that everything lies under; "": one after the station."""

    host: str
    port: int
    is_encrypted: bool
    user: str | None
    prefix: str


@final
class Login(NamedTuple):
    """The names of the password and of the authority's certificate, and Home Assistant's topic; "": none."""

    password_name: str = ""
    authority_name: str = ""
    discovery: str = "homeassistant"


def is_broker(url: str) -> bool:
    """Whether a hook is a broker of MQTT.

    >>> is_broker("mqtts://mes@broker.example/line3"), is_broker("https://mes.example/")
    (True, False)
    """
    return url.startswith(("mqtt://", "mqtts://"))


def parse_address(url: str) -> Address:
    """What an address says.

    Raises:
        SettingsError: it is none of a broker, has a password in it, or a topic that cannot be published to.

    >>> parse_address("mqtts://mes@broker.example/line3")
    Address(host='broker.example', port=8883, is_encrypted=True, user='mes', prefix='line3')
    """
    expected = "expected an address such as mqtts://user@broker.example/topic"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError(f"broker: {expected}") from None
    if parts.password is not None:
        raise SettingsError("broker: give the password as a file or a variable, by its name, and not in the address")
    if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment or len(url) > 1000:
        raise SettingsError(f"broker '{url[:80]}': {expected}")
    prefix = unquote(parts.path).strip("/")
    if not prefix.isprintable() or set(prefix) & set("+#$"):
        raise SettingsError(f"broker: the topic '{prefix[:80]}' holds one of + # $, which no message is published to")
    user = None if parts.username is None else unquote(parts.username)
    return Address(parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts", user, prefix)


def add_broker(database: Database, actor: str, url: str, product_id: int | None, login: Login) -> int:
    """Publish every decision from now on; returns the number of the hook.

    Raises:
        SettingsError: no address of a broker, one that is told already, no such product, or no name of a password.
    """
    url = url.strip()
    parse_address(url)
    if login.password_name:
        check_name(login.password_name, "password")
    if login.authority_name:
        check_name(login.authority_name, "authority")
    if re.fullmatch(r"[A-Za-z0-9_/-]{0,64}", login.discovery) is None:
        raise SettingsError(f"discovery '{login.discovery[:64]}': expected a topic such as homeassistant, or nothing")
    with database.write() as session:
        hook_id = begin_hook(session, actor, url, product_id)
        session.add(Broker(hook_id=hook_id, **login._asdict()))
        return hook_id


def login_of(database: Database, hook_id: int) -> Login:
    """How a broker is logged in to."""
    with database.read() as session:
        found = session.get(Broker, hook_id)
    return Login() if found is None else Login(found.password_name, found.authority_name, found.discovery)


@final
class Topics(NamedTuple):
    """Where a station publishes."""

    prefix: str
    station: str

    @property
    def status(self) -> str:
        """`online` or `offline`, retained; the broker says the latter for a station that is gone."""
        return f"{self.prefix}/status"

    def verdict(self, product: Product) -> str:
        """The last decision of a product, retained.

        >>> Topics("line3", "3f0c").verdict(Product(id=2, name="hazel nut/big"))
        'line3/hazel_nut_big-2/verdict'
        """
        return f"{self.prefix}/{re.sub('[^A-Za-z0-9_-]', '_', product.name)}-{product.id}/verdict"


def topics_of(hook: Hook, station_id: str) -> Topics:
    """Where a station publishes to that broker."""
    station = station_id[:8]
    return Topics(parse_address(hook.url).prefix or f"blemish/{station}", station)


def discovery(topics: Topics, login: Login, product: Product, version: str) -> list[tuple[str, bytes]]:
    """Topics and retained messages from which Home Assistant makes entities of a product."""
    device = {
        "identifiers": [f"blemish_{topics.station}_{product.id}"],
        "name": product.name,
        "manufacturer": "blemish",
        "sw_version": version,
    }
    found = []
    for kind, name, more in ENTITIES if login.discovery else ():
        told: dict[str, Any] = {
            "name": name,
            "unique_id": f"blemish_{topics.station}_{product.id}_{name}",
            "state_topic": topics.verdict(product),
            "value_template": f"{{{{ value_json.{name} }}}}",
            "json_attributes_topic": topics.verdict(product),
            "availability_topic": topics.status,
            "device": device,
            **more,
        }
        topic = f"{login.discovery}/{kind}/blemish_{topics.station}/{product.id}_{name}/config"
        found.append((topic, json.dumps(told).encode()))
    return found

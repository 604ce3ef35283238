"""A real broker of MQTT in a process of its own: Mosquitto where it is installed, else amqtt."""

import datetime
import ipaddress
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from pwdlib.hashers.argon2 import Argon2Hasher

from station.waiting import wait_until

USER, PASSWORD = "mes", "geheim-71af"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class RealBroker:
    """A broker that can be ended and begun again at the same port; it lets in who knows the password."""

    def __init__(self, folder: Path, is_encrypted: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.certificate = write_certificate(folder) if is_encrypted else None
        write = write_mosquitto if MOSQUITTO else write_amqtt
        self.command = write(folder, self.port, self.certificate)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"mqtt{'s' if self.certificate else ''}://{USER}@localhost:{self.port}/line3"

    def begin(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert wait_until(lambda: self.process is None or self.process.poll() is not None or self._answers())
        assert self.process.poll() is None, "the broker does not begin"

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def listen(self) -> Iterator[list[tuple[str, Any, bool]]]:
        """Topic, message and whether it was retained, of everything that is published meanwhile."""
        heard: list[tuple[str, Any, bool]] = []
        client, is_listening = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311), list[int]()
        client.username_pw_set(USER, PASSWORD)
        if self.certificate is not None:
            client.tls_set(str(self.certificate))
        client.on_connect = lambda *_: client.subscribe("#", qos=1)
        client.on_subscribe = lambda *_: is_listening.append(1)
        client.on_message = lambda _client, _data, message: heard.append(
            (message.topic, read_message(message.payload), bool(message.retain))
        )
        client.connect("localhost", self.port)
        client.loop_start()
        wait_until(lambda: bool(is_listening))
        try:
            yield heard
        finally:
            client.disconnect()
            client.loop_stop()


def read_message(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode()


def write_mosquitto(folder: Path, port: int, certificate: Path | None) -> list[str]:
    passwords, settings = folder / "passwords", folder / "mosquitto.conf"
    assert MOSQUITTO is not None
    tool = Path(MOSQUITTO).with_name("mosquitto_passwd")
    tool = tool if tool.exists() else Path(shutil.which("mosquitto_passwd") or "mosquitto_passwd")
    subprocess.run([tool, "-b", "-c", passwords, USER, PASSWORD], check=True, capture_output=True)
    passwords.chmod(0o644)  # it gives up being root
    folder.chmod(0o755)
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}", "user root"]
    if certificate is not None:
        lines += [f"certfile {certificate}", f"keyfile {certificate.with_suffix('.key')}"]
    settings.write_text("\n".join(lines) + "\n")
    return [MOSQUITTO, "-c", str(settings)]


def write_amqtt(folder: Path, port: int, certificate: Path | None) -> list[str]:
    passwords, settings = folder / "passwords", folder / "amqtt.yaml"
    passwords.write_text(f"{USER}:{Argon2Hasher().hash(PASSWORD)}\n")
    listener: dict[str, Any] = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
    if certificate is not None:
        listener |= {"ssl": True, "certfile": str(certificate), "keyfile": str(certificate.with_suffix(".key"))}
    plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)}}
    settings.write_text(json.dumps({"listeners": {"default": listener}, "plugins": plugins}))  # JSON is YAML, too
    return [str(Path(sys.executable).with_name("amqtt")), "-c", str(settings)]


def write_certificate(folder: Path) -> Path:
    """A certificate for localhost that is its own authority's, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "broker.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return path

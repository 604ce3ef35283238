"""Only the model file that is meant: by its hash, or by a signature."""

import hashlib
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from blemish import ArtifactError, Predictor, SettingsError
from blemish.inference.trust import sign_model, signature_path
from reference.command import run


def write_keys(folder: Path, name: str, private: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> tuple[Path, Path]:
    keys = folder / f"{name}.pem", folder / f"{name}.pub"
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    keys[0].write_bytes(private.private_bytes(pem, pkcs8, plain))
    keys[1].write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return keys


@pytest.fixture
def model(onnx_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(onnx_file, tmp_path / "m.onnx"))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ours", ed25519.Ed25519PrivateKey.generate())


def test_a_hash_tells_the_file_from_others(model: Path, shared_parts: Path) -> None:
    photo, right = shared_parts / "test/good/000.png", hashlib.sha256(model.read_bytes()).hexdigest()
    assert Predictor.load(model, sha256=right.upper()).threshold > 0
    monitored = ["monitor", model, photo.parent, "--state", model.parent / "state"]
    quick = (["inspect", model, photo], ["verify", model], monitored)
    slow = [[name, model, shared_parts, "-o", model.parent / "out"] for name in ("evaluate", "challenge")]
    for command in (*quick, *slow, ["watch", model, photo.parent]):
        if command in quick:
            assert run(*command, "--sha256", right).exit_code in (0, 1)
        wrong = run(*command, "--sha256", "0" * 64)
        assert (wrong.exit_code, f"its SHA-256 is {right}, expected 000" in wrong.stderr) == (2, True)
    with pytest.raises(SettingsError, match="expected 64 hexadecimal digits"):
        Predictor.load(model, sha256="5f70")
    with pytest.raises(SettingsError, match="--sha256 7: expected 64 hexadecimal digits"):
        Predictor.load(model, sha256=7)  # type: ignore[arg-type]


def test_a_signature_tells_the_file_from_others(model: Path, keys: tuple[Path, Path], shared_parts: Path) -> None:
    photo = shared_parts / "test/good/000.png"
    private, public = keys
    unsigned = run("inspect", model, photo, "--signed-by", public)
    assert (unsigned.exit_code, "no signature there; sign the model" in unsigned.stderr) == (2, True)
    assert run("sign", model, "--key", private).exit_code == 0
    assert run("inspect", model, photo, "--signed-by", public).exit_code in (0, 1)
    assert Predictor.load(model, signed_by=public).predict(photo).score > 0
    others = write_keys(model.parent, "others", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(ArtifactError, match="not signed by"):
        Predictor.load(model, signed_by=others[1])
    assert "m.onnx.sig: signs the file that was there before; sign it again" not in run("certify", model).stderr
    told = run("certify", model, "--max-false-alarm-rate", "0.7").stderr
    assert "m.onnx.sig: signs the file that was there before; sign it again" in told.replace("\n", " ")
    with pytest.raises(ArtifactError, match="or changed since; do not use it"):
        Predictor.load(model, signed_by=public)


def test_the_signature_of_another_tool_is_not_replaced(model: Path, keys: tuple[Path, Path]) -> None:
    beside = model.with_name(f"{model.name}.sig")
    for _ in range(2):  # ours is
        assert run("sign", model, "--key", keys[0]).exit_code == 0
    beside.write_text("untrusted comment: signature from minisign secret key\nRUQ=\n")
    said = run("sign", model, "--key", keys[0])
    assert (said.exit_code, "blemish did not write that" in said.stderr) == (2, True)
    assert beside.read_text().startswith("untrusted comment")


def test_what_is_no_key_or_no_signature_is_named(model: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    odd = write_keys(model.parent, "rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    for key in (public, model, model.parent / "none.pem", odd[0]):
        with pytest.raises(
            SettingsError, match=f"{key.name}: (no private key|not an ed25519 key|the key cannot be read)"
        ):
            sign_model(model, key)
    sign_model(model, private)
    for key in (private, model, odd[1]):
        with pytest.raises(SettingsError, match=f"{key.name}: (no public key|not an ed25519 key)"):
            Predictor.load(model, signed_by=key)
    for content in (b"", b"*" * 88, b"A" * 10_000, b"\xff\xff"):
        signature_path(model).write_bytes(content)
        with pytest.raises(ArtifactError, match=r"no signature there|not signed by"):
            Predictor.load(model, signed_by=public)

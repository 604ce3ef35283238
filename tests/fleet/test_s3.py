"""Images in an S3 bucket, of a real server on this machine."""

from collections.abc import Iterator

import pytest

from blemish.errors import DataError
from blemish.fleet.fetch import fetch

pytestmark = pytest.mark.slow
HOW = "pip install s3fs 'moto[server]'"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`line`, with one object."""
    pytest.importorskip("s3fs", reason=HOW)
    server = pytest.importorskip("moto.server", reason=HOW).ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-a-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-a-test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="line")
    client.put_object(Bucket="line", Key="day 1/a b#1.png", Body=b"pixels" * 500_000)
    yield
    server.stop()


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("bucket")
def test_objects_are_fetched_and_missing_ones_are_named() -> None:
    assert fetch("s3://line/day 1/a b#1.png") == b"pixels" * 500_000
    assert len(fetch("S3://line/day 1/a b#1.png")) == 3_000_000
    for missing in ("s3://line/none.png", "s3://nowhere/a.png"):
        with pytest.raises(DataError, match=f"{missing}: no such file"):
            fetch(missing)

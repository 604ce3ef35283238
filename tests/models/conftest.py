"""What tests of encoders in folders share."""

import socket
from collections.abc import Iterator

import pytest

from blemish.hub.licences import accept


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing may connect; DINOv3's licence is accepted, and no encoder was fetched before."""

    def refuse(*_: object) -> None:
        pytest.fail("a connection was tried")

    home = tmp_path_factory.mktemp("home")
    accept("dinov3-license", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLEMISH_ENCODERS", str(home))
        patch.setattr(socket.socket, "connect", refuse)
        yield

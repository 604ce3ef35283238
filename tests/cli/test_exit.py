"""How a command ends."""

import pytest
import typer

from blemish.cli.exit import ERROR, ending


@pytest.mark.parametrize(("command", "extra"), [("train", "train"), ("station serve", "station")])
def test_a_missing_package_names_what_brings_it(command: str, extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise ModuleNotFoundError(name="pwdlib")

    with pytest.raises(typer.Exit) as ended:
        ending(command, run)()
    assert ended.value.exit_code == ERROR
    assert "needs the package 'pwdlib'; install what" in (said := " ".join(capsys.readouterr().err.split()))
    assert said.endswith(f"pip install 'blemish[{extra}]'")

"""`blemish doctor`: what works on this machine, and what does not."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import emit, out_console

MARKS = {"good": " ", "note": "-", "bad": "!"}


def doctor(
    folder: Annotated[Path, typer.Argument(help="Where models and results would be written.")] = Path(),
    self_test: Annotated[bool, typer.Option(help="Train and judge a few drawn images, for some five seconds.")] = True,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Say what works here and what does not. Exit code 0: nothing is wrong; 1: something is; 2: an error."""
    from blemish.evaluation.doctor import examine

    findings = examine(folder, self_test)
    if json_lines:
        emit("".join(json.dumps(asdict(finding)) + "\n" for finding in findings))
    else:
        for finding in findings:
            advice = f"; {finding.advice}" if finding.advice else ""
            out_console.print(f"{MARKS[finding.state]} {finding.topic:<12} {finding.found}{advice}")
        wrong = [finding.topic for finding in findings if finding.state == "bad"]
        out_console.print(f"wrong: {', '.join(dict.fromkeys(wrong))} (marked !)" if wrong else "nothing is wrong")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)

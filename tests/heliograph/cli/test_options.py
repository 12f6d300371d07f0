from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from typer.testing import CliRunner

from heliograph.cli.options import takes


class Paint(msgspec.Struct, frozen=True):
    colour: Annotated[str, typer.Option("--colour", help="Which.")] = "red"
    coats: Annotated[list[int] | None, typer.Option("--coat", help="How thick.")] = None


class Varnish(Paint, frozen=True):
    dry: Annotated[bool, typer.Option("--dry")] = False


app = typer.Typer()


@app.command()
@takes(Varnish)
def varnish(form: Varnish, loudly: Annotated[bool, typer.Option("--loudly")] = False) -> None:
    """Make it shine."""
    typer.echo(f"{form} {loudly}")


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_fields_of_a_form_are_options_beside_the_function_s_own() -> None:
    assert said() == f"{Varnish()} False\n"
    words = ("--colour", "blue", "--coat", "1", "--coat", "2", "--dry", "--loudly")
    assert said(*words) == f"{Varnish('blue', [1, 2], True)} True\n"
    help_text = said("--help")
    assert "Make it shine." in help_text
    assert "Which." in help_text

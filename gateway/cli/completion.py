"""`gateway completion`."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion of this command for a SHELL, which also completes the names of servers."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(click.get_current_context().find_root().command, {}, "gateway", "_GATEWAY_COMPLETE").source())

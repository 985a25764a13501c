"""The `npu-proxy` command. Subjects are modules in `cli.commands`; what is heavy is imported when used."""

import click

from .commands import inspect, keys, models, processes


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    # Reading the installed version takes longer than all the rest of --help.
    from importlib.metadata import version

    click.echo(f"npu-proxy {version('npu-proxy')}")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              help="Show the version and exit.")  # fmt: skip
def main() -> None:
    """Share one machine's NPU, GPU or CPU between many users of the OpenAI and Ollama APIs.

    Start with `npu-proxy serve`. Every setting is an option, an environment variable or a line of a file:
    `npu-proxy settings` lists them.
    """


for module in (processes, models, keys, inspect):
    for command in module.COMMANDS:
        main.add_command(command)

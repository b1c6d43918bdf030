"""Completion scripts for shells, made from the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_shmpool() {{
    local words
    case "${{COMP_WORDS[1]}}" in
{cases}
        *) words="{top}" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -o bashdefault -F _shmpool shmpool
"""

# Names of pools, by their first slabs: Python would take longer than one waits for a Tab.
_POOLS = "cd /dev/shm && ls | sed -n 's/[.]slab0//p'"


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """For one shell, to be sourced by it."""
    if shell == "fish":
        return "\n".join(_fish(parser))
    cases = "\n".join(
        f'        {name}) words="{" ".join(_options(command))}{_pools(command)}" ;;'
        for name, command in _commands(parser).items()
    )
    top = " ".join([*_commands(parser), *_options(parser)])
    bash = _BASH.format(cases=cases, top=top)
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash}" if shell == "zsh" else bash


def _pools(command: argparse.ArgumentParser) -> str:
    return f" $({_POOLS})" if _takes_a_pool(command) else ""


def _takes_a_pool(command: argparse.ArgumentParser) -> bool:
    return any(action.dest == "name" and not action.option_strings for action in command._actions)


def _fish(parser: argparse.ArgumentParser) -> Iterator[str]:
    for name, command in _commands(parser).items():
        yield f"complete -c shmpool -n __fish_use_subcommand -a {name}"
        for option in _options(command):
            long = option.lstrip("-")
            yield f"complete -c shmpool -n '__fish_seen_subcommand_from {name}' -l {long}"
        if _takes_a_pool(command):
            seen = f"'__fish_seen_subcommand_from {name}'"
            yield f'complete -c shmpool -n {seen} -f -a "(sh -c \\"{_POOLS}\\")"'


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    ]

"""The pages in docs/man: one a command, with each of its options and exit codes, and no others."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from shmpool.cli import parser
from shmpool.cli.wishes import KEYS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = DOCS / "man"
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "KEYS", "EXIT STATUS", "EXAMPLES",
            "SEE ALSO"]  # fmt: skip
OPTION = re.compile(r"\*\*(--?[a-z][a-z-]*)\*\*")


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands, by name."""
    (found,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(found.choices)


def said() -> dict[str, str]:
    """What `shmpool --help` says of each command."""
    (found,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return {action.dest: str(action.help) for action in found._choices_actions}


def page(command: str) -> Path:
    """The page of a command, or of the whole."""
    return PAGES / (f"shmpool-{command}.md" if command else "shmpool.md")


def sections(command: str) -> dict[str, str]:
    """A page by its headings."""
    parts = re.split(r"^## (.+)$", page(command).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def of(command: str) -> argparse.ArgumentParser:
    """A command's parser, or that of the whole."""
    return commands()[command] if command else parser()


ALL = ["", *commands()]


@pytest.mark.parametrize("command", ALL)
def test_every_command_has_a_page_like_the_others(command: str) -> None:
    """With the same headings, in the same order; and docs/README.md leads to it."""
    assert page(command).is_file(), f"write {page(command).relative_to(DOCS.parent)}"
    there = list(sections(command))
    assert there == [name for name in SECTIONS if name in there]
    assert set(SECTIONS) - set(there) <= {"KEYS"}
    title = page(command).stem
    assert page(command).read_text().startswith(f"# {title}(1)\n")
    assert sections(command)["NAME"].strip().startswith(f"{title} - ")
    assert f"(man/{title}.md)" in (DOCS / "README.md").read_text()


def test_every_page_is_of_a_command() -> None:
    """None is left of a command that has gone."""
    assert {path.stem for path in PAGES.iterdir()} == {page(command).stem for command in ALL}


@pytest.mark.parametrize("command", ALL)
def test_a_page_has_the_options_of_its_command_and_no_others(command: str) -> None:
    """Each with what it takes; what is no option stands in the synopsis."""
    options = {o for action in of(command)._actions for o in action.option_strings}
    text = sections(command)["OPTIONS"]
    listed = {option for line in re.findall(r"^\*\*-.*$", text, re.MULTILINE)
              for option in OPTION.findall(line)}  # fmt: skip
    assert listed == options
    assert set(OPTION.findall(page(command).read_text())) <= options
    for action in of(command)._actions:
        if action.option_strings and action.nargs != 0 and action.metavar:
            assert f"**{action.option_strings[-1]}** *{action.metavar}*" in text
        for choice in action.choices or [] if action.option_strings else []:
            assert re.search(rf"\b{choice}\b", text), f"{choice} of {action.option_strings}"
        if not action.option_strings:
            assert f"*{action.metavar or action.dest}*" in sections(command)["SYNOPSIS"]


@pytest.mark.parametrize("command", commands())
def test_a_page_says_what_the_help_says(command: str) -> None:
    """In a line, and of each exit code, in the same words."""
    assert sections(command)["NAME"].strip() == f"{page(command).stem} - {said()[command]}"
    epilog = str(of(command).epilog).partition("exit codes:")[2]
    codes = re.findall(r"^  (\d+) +(.+)$", epilog, re.MULTILINE)
    assert codes
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", sections(command)["EXIT STATUS"], re.MULTILINE)
    assert rows == codes


def test_the_page_of_the_whole_lists_the_commands() -> None:
    """As `shmpool --help` does, in its order."""
    rows = re.findall(
        r"^\| \[(\w+)\]\((.+)\) \| (.+) \|$", sections("")["DESCRIPTION"], re.MULTILINE
    )
    assert rows == [(name, page(name).name, about) for name, about in said().items()]


def test_the_page_of_top_has_its_keys() -> None:
    """Those of its own help, in the same words."""
    rows = re.findall(r"^\| \*\*(.+)\*\* \| (.+) \|$", sections("top")["KEYS"], re.MULTILINE)
    assert rows == list(KEYS.items())


@pytest.mark.parametrize("command", ALL)
def test_what_a_page_refers_to_is_there(command: str) -> None:
    """Links into the documentation."""
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page(command).read_text()):
        assert (PAGES / link).is_file(), link

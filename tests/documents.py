"""The repository's pages as a reader sees them: their links, the anchors that they offer, and the commands in them."""

import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from processor.cli.main import app

ROOT: Final = Path(__file__).parents[1]
SHELL: Final = {"sh", "bash"}
"""What a fence with commands is marked with."""
BY_NAME: Final = re.compile(r"(?:\.venv/bin/)?(janela|make) [a-z]")
"""What is a command where it stands in the middle of a sentence."""

_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command of a page; `variables` are those set for it alone, or by `export`, whose words are then none."""

    page: str
    text: str
    variables: dict[str, str]
    words: tuple[str, ...]
    is_whole: bool
    """Whether it is a line to be typed; else a sentence names it, perhaps without what it needs."""

    @property
    def program(self) -> str:
        """What is run: the first word, without the environment that it lies in."""
        return self.words[0].removeprefix(".venv/bin/") if self.words else ""

    def __str__(self) -> str:
        """Give the page and the line, as a test's failure shows it."""
        return f"{self.page}: {self.text}"


def pages() -> list[Path]:
    """Give every page that git keeps or would keep."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for name in sorted(set(names)) if name and (path := ROOT / name).is_file()]


def links(text: str) -> list[str]:
    """Give the target of each link, in the order of the page."""
    inline = (each for token in _MARKDOWN.parse(text) for each in token.children or ())
    return [str(each.attrs["href"]) for each in inline if each.type == "link_open"]


def anchors(text: str) -> set[str]:
    """Give the anchors of a page's headings, as a forge makes them: the second of one name is numbered."""
    tokens, seen, found = _MARKDOWN.parse(text), Counter[str](), set()
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            words = "".join(each.content for each in content.children or () if each.type in ("text", "code_inline"))
            name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return found


def blocks(text: str, *kinds: str) -> list[int]:
    """Give the line (from 0) where each block of these kinds begins, if it lies in no other block."""
    tokens = _MARKDOWN.parse(text)
    return [token.map[0] for token in tokens if token.type in kinds and token.level == 0 and token.map]


def shell_blocks(text: str) -> list[str]:
    """Give what is to be typed into a shell: fences that say so, and indented blocks."""
    return [token.content for token in _MARKDOWN.parse(text) if _is_shell(token)]


def commands(page: str, text: str) -> Iterator[Command]:
    """Give each command of a page, in its order."""
    for token in _MARKDOWN.parse(text):
        if _is_shell(token):
            for line in token.content.replace("\\\n", " ").splitlines():
                yield from _command(page, line, is_whole=True)
        for each in token.children or ():
            if each.type == "code_inline" and BY_NAME.match(each.content.partition("=")[2] or each.content):
                yield from _command(page, each.content, is_whole=False)


def complaint(words: tuple[str, ...], is_whole: bool) -> str:
    """Say what `janela` would find wrong with its arguments, without running anything; empty where nothing is."""
    command: Any = typer.main.get_command(app)
    name, context, arguments = "janela", None, list(words)
    while True:
        named = {option for it in command.params for option in (*it.opts, *it.secondary_opts)} | {"--help", "-h"}
        is_group = hasattr(command, "resolve_command")
        if not is_group and not is_whole:
            unknown = [word for word in arguments if word.startswith("-") and word not in named]
            return f"no option {unknown}" if unknown else ""
        if is_group and not arguments:
            return ""
        try:
            context = command.make_context(name, arguments, parent=context)
            rest = [*getattr(context, "_protected_args", ()), *context.args]
            if not is_group or not rest:
                return ""
            name, command, arguments = command.resolve_command(context, rest)
        except Exception as error:
            if not hasattr(error, "format_message"):  # what the parser raises has it, in whichever click it is
                raise
            return str(error.format_message())


def _is_shell(token: Token) -> bool:
    return token.type == "code_block" or (token.type == "fence" and token.info.split(" ")[0] in SHELL)


def _command(page: str, line: str, *, is_whole: bool) -> Iterator[Command]:
    words = shlex.split(line, comments=True)
    if not words:
        return
    exports = words[0] == "export"
    if exports:
        del words[0]
    variables: dict[str, str] = {}
    while words and (match := _ASSIGNMENT.fullmatch(words[0])):
        variables[match[1]] = match[2]
        del words[0]
    yield Command(page, line.strip(), variables, tuple(words), is_whole)

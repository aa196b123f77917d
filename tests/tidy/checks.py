"""What the repository holds itself to: each check takes source text and gives a line for each fault it finds.

They know nothing of where the text comes from, so that `test_checks` can show each of them fail.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping

PURE_MODULES = {
    "base64",
    "binascii",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "msgspec",
    "operator",
    "orjson",
    "re",
    "string",
    "struct",
    "tomllib",
    "types",
    "typing",
}
"""All that core and codec may import beside each other: none of it reads a clock, a file or the environment."""

IMPURE_CALLS = {"__import__", "breakpoint", "compile", "eval", "exec", "input", "open", "print"}
CLOCK_READS = {"now", "today", "utcnow"}
"""What `datetime` has beside its pure parts."""

LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
"""The methods of a logger that write a line."""

CLIENTS = {
    "AIOKafkaAdminClient",
    "AIOKafkaClient",
    "AIOKafkaConnection",
    "AIOKafkaConsumer",
    "AIOKafkaProducer",
    "create_conn",
}
"""All that connects to a broker."""

RULE_ID = re.compile(r"\b[WSE]\d{1,2}a?\b")

PLACES = (
    (re.compile(r"(?<![\w.])/(?:root|wor[k]|Users)/[\w.]"), "a path of one machine"),
    (re.compile(r"(?<![\w.])/home/[\w.]"), "a path of one machine"),
    (re.compile(r"\.\./share[d]"), "a path outside of the repository"),
    (
        re.compile(
            r"pypi\.org|pythonhosted\.org|npmjs\.org|repo1?\.maven\b|proxy\.golang\.org|crates\.io|deb\.debian\.org"
        ),
        "the host of a package registry",
    ),
    (re.compile(r"--(?:extra-)?index-url|--find-link[s]"), "an index of packages"),
)

WORDS_MIN = 4
"""A name of fewer says what is tested, not what is true."""


def impurities(source: str) -> Iterator[str]:
    """Yield what a pure module must not do: import from the world outside, open, print, read the time of day."""
    for node in ast.walk(ast.parse(source)):
        for module in _imported(node):
            if module.split(".")[0] not in PURE_MODULES and not module.startswith(
                ("processor.core", "processor.codec")
            ):
                yield f"{_line(node)} imports {module}"
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                yield f"{_line(node)} calls {name}"
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name) if name in CLOCK_READS:
                yield f"{_line(node)} reads the time of day by {name}"


def prints(source: str) -> Iterator[str]:
    """Yield where the module prints, other than into a file."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="print"), keywords=keywords):
                files = [ast.unparse(keyword.value) for keyword in keywords if keyword.arg == "file"]
                if not files or files[0] in ("sys.stdout", "sys.stderr"):
                    yield f"{_line(node)} prints"


def logged(source: str) -> Iterator[tuple[str, str]]:
    """Give (name, level) of each line that a module logs; a name that is not written out is the empty one."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[name, *_]) if level in LEVELS:
                yield name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else "", level


def clients(source: str) -> Iterator[str]:
    """Yield where a module makes a client of Kafka's by itself."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in CLIENTS:
                yield f"{_line(node)} makes an {name}"


def missing_docstring(source: str) -> Iterator[str]:
    """Yield the module's fault, if nothing says what it is for."""
    if ast.get_docstring(ast.parse(source)) is None:
        yield "has no docstring"


def short_names(source: str) -> Iterator[str]:
    """Yield the tests whose names are no sentence."""
    for test in _tests(source):
        if len(test.name.split("_")) - 1 < WORDS_MIN:
            yield f"{_line(test)} {test.name} is no sentence"


def places(text: str) -> Iterator[str]:
    """Yield where the text names a place that other machines don't have, or a registry."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, what in PLACES:
            if found := pattern.search(line):
                yield f"line {number} has {what}: {found[0]}"


def rules_in_scope(text: str) -> dict[str, str]:
    """Give the sentence of each rule id.

    Raises:
        ValueError: A line is not an id and a sentence, or an id stands twice.
    """
    rules: dict[str, str] = {}
    for line in text.splitlines():
        identifier, _, sentence = line.partition(" ")
        if not RULE_ID.fullmatch(identifier) or len(sentence.split()) < WORDS_MIN or identifier in rules:
            raise ValueError(f"not a new id and a sentence: {line!r}")
        rules[identifier] = sentence.strip()
    return rules


def rules_named(source: str) -> set[str]:
    """Give the rule ids that the docstrings of a test module's tests and classes name."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return {found for node in [*_tests(source), *classes] for found in RULE_ID.findall(ast.get_docstring(node) or "")}


def orphans(modules: Mapping[str, str], entry_points: Iterable[str]) -> Iterator[str]:
    """Yield the modules (name to source) that no other one imports and that are no entry points.

    A package is there for its modules, so it is never an orphan itself.
    """
    imported = set(entry_points)
    for name, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            imported |= {module for module in _imported(node) if module != name}
            if isinstance(node, ast.ImportFrom):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    packages = {name.rpartition(".")[0] for name in modules}
    yield from sorted(set(modules) - imported - packages)


def third_party(source: str, own: Iterable[str], standard: Iterable[str]) -> set[str]:
    """Give the top-level modules that a module imports from neither its own packages nor the standard library."""
    names = {module.split(".")[0] for node in ast.walk(ast.parse(source)) for module in _imported(node)}
    return names - set(own) - set(standard)


def imports(source: str, package: str, besides: str = "") -> bool:
    """Say whether a module takes anything from a package, `besides` what lies below one that is named in full."""
    modules = {module for node in ast.walk(ast.parse(source)) for module in _imported(node)}
    return any(
        module.split(".")[0] == package and not (besides and f"{module}.".startswith(f"{besides}."))
        for module in modules
    )


def code_lines(source: str) -> int:
    """Count the lines that hold code: no blank ones, no comments, no docstrings."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for token in tokens if token.type not in layout for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def unhashed(lock: str) -> Iterator[str]:
    """Yield the requirements of a lock file that are not pinned, or whose files have no hash."""
    for entry in re.split(r"\n(?=\S)", lock):
        line = entry.partition("\n")[0]
        if line and not line.startswith("#") and not (re.match(r"[\w.-]+==\S", line) and "--hash=sha256:" in entry):
            yield f"{line} is not held by version and hash"


def pins(lock: str) -> dict[str, str]:
    """Give the version of each package of a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))


def _imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names):
            # `from processor import topics` imports a module by name, and the package only on the way
            return [f"{module}.{alias.name}" for alias in names] if module == "processor" else [module]
        case _:
            return []


def _tests(source: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, functions) and node.name.startswith("test_")
    ]


def _line(node: ast.AST) -> str:
    return f"line {getattr(node, 'lineno', '?')}"

"""The pages: those that are made are what is made, each link leads somewhere, each command is one."""

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from processor import contract
from processor.access import Access
from processor.cli.main import app
from processor.core.policy import Policy
from processor.ops.pages import PAGES
from processor.policy_file import load_policy
from processor.settings import ENV_PREFIX, NOT_SETTINGS, Settings, variable
from tests.documents import ROOT, Command, anchors, commands, complaint, links, pages, shell_blocks
from tests.site.__main__ import spaced

NOT_RUN: Final = {
    "pip": "gets a package from an index, where this one is not before its first release",
    "docker": "there is no container engine; tests/deploy reads the compose file by docker-compose",
    "kubectl": "there is no Kubernetes; tests/deploy holds what is applied to its types",
    "helm": "there is no Kubernetes; tests/deploy renders and lints the chart",
    "kafka-console-producer.sh": "nor of this one; tests/integration/test_erasure.py writes what it writes",
    "kafka-features.sh": "the embedded Kafka has no jar of it; tests/integration/test_features.py sends what it sends",
}
"""Programs whose commands no test runs, and why."""

RUN_BY: Final = {
    "rebuild": "tests/integration/test_rebuild_verb.py",
    "archive": "tests/integration/test_replay.py",
    "config": "tests/unit/test_cli_config.py",
    "kafka": "tests/integration/test_embedded_kafka.py",
    "load": "tests/integration/test_load.py",
    "measure": "tests/integration/test_measure.py",
    "replay": "tests/integration/test_replay.py",
    "send": "tests/integration/test_send_and_watch.py",
    "topics": "tests/integration/test_topics.py",
    "up": "tests/integration/test_up.py",
    "verify": "tests/integration/test_verify.py",
    "watch": "tests/integration/test_send_and_watch.py",
    "worker": "tests/integration/test_worker.py",
    "python -m deploy.generate": "tests/deploy/test_strimzi.py",
}
"""Verbs and programs of the pages -> where they are run. The quickstart's are run line by line, in the page's order, by
`tests/integration/test_quickstart.py`, those on security by `tests/integration/test_security.py`."""

KAFKAS: Final = {
    *("acls", "broker-api-versions", "client-metrics", "cluster", "configs", "console-consumer", "console-producer"),
    *("console-share-consumer", "consumer-groups", "consumer-perf-test", "delegation-tokens", "delete-records"),
    *("dump-log", "e2e-latency", "features", "get-offsets", "groups", "leader-election", "log-dirs", "metadata-quorum"),
    *("metadata-shell", "producer-perf-test", "reassign-partitions", "share-groups", "storage", "streams-groups"),
    *("topics", "transactions"),
}
"""Kafka's programs for an operator, `kafka-NAME.sh`, as 4.2 has them in its folder bin (read in its repository)."""

FILES: Final = re.compile(r"[\w.-]+\.(?:json|html|toml|txt|zst|jsonl\.zst)")
"""Arguments that are files of the reader's."""


def read(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def named(path: Path) -> set[str]:
    return anchors(read(path))


@pytest.fixture(scope="module")
def found() -> list[Command]:
    """Give every command of every page."""
    return [each for path in pages() for each in commands(str(path.relative_to(ROOT)), read(path))]


@pytest.mark.parametrize(("file", "made"), PAGES.items(), ids=PAGES)
def test_a_page_that_is_made_is_what_is_made(file: str, made: Callable[[], str]) -> None:
    assert read(ROOT / file) == made(), "make docs"


def test_every_setting_has_a_meaning_a_default_and_a_reason_for_it() -> None:
    page = read(ROOT / "docs/settings.md")
    for name, field in Settings.model_fields.items():
        meaning, told, reason = (field.description or "").replace("\n", " ").partition("Default: ")
        assert meaning, name
        assert told, name
        assert reason, name
        assert page.count(f"| `{variable(name)}` |") == 1
    assert page.index("### app_id") < page.index(f"### {next(iter(Access.model_fields))}")


def test_every_field_of_every_schema_stands_on_the_page_of_the_contract_under_its_topic() -> None:
    def fields(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            for name, each in schema.items():
                yield from each if name == "properties" else ()
                yield from () if name in ("if", "not") else fields(each)
        elif isinstance(schema, list):
            for each in schema:
                yield from fields(each)

    page = read(ROOT / "docs/contract.md")
    for topic in contract.topics():
        section = page.partition(f"\n## {topic.name}\n")[2].partition("\n## ")[0]
        of_rows = {name.removeprefix("data.") for name in re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)}
        shown = {part for name in of_rows for part in (name, name.rpartition(".")[2])}
        assert set(fields(contract.event_schema(topic.value.schema))) - shown <= {"data"}, topic.name
        assert all(f"`{key}={value}`" in section for key, value in topic.configuration.items())


def test_every_link_of_every_page_leads_to_a_file_and_a_heading_that_are_there() -> None:
    lost, followed = [], 0
    for path in pages():
        for link in links(read(path)):
            if "://" in link:
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            followed += 1
            if not target.exists() or (anchor and anchor not in named(target)):
                lost.append(f"{path.relative_to(ROOT)}: {link}")
    assert lost == []
    assert followed > 100


def test_every_page_below_docs_can_be_reached_from_the_map() -> None:
    reached, ways = set(), [ROOT / "docs/README.md"]
    while ways:
        path = ways.pop()
        if path not in reached and path.suffix == ".md" and path.exists():
            reached.add(path)
            targets = (link.partition("#")[0] for link in links(read(path)) if "://" not in link)
            ways += [(path.parent / target).resolve() for target in targets if target]
    assert set((ROOT / "docs").rglob("*.md")) - reached == set()


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for each in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(each)

    listed = list(leaves(yaml.safe_load(read(ROOT / "mkdocs.yml"))["nav"]))
    assert sorted(listed) == [str(path.relative_to(ROOT)) for path in pages()]


def test_what_mkdocs_would_take_for_text_gets_its_blank_line() -> None:
    assert spaced("a\n* b\n  c\nd\n\n|x|\n|-|\n") == "a\n\n* b\n  c\nd\n\n|x|\n|-|\n"
    assert spaced("a\n|x|\n|-|\n\n1. b\n") == "a\n\n|x|\n|-|\n\n1. b\n"


def test_commands_are_found_where_they_stand() -> None:
    named, indented = "`janela up`, `make run`, `uv`", "    A=1 janela x # y"
    text = f"{named}\n\n{indented}\n\n```sh\nexport B=2\nhelm a \\\n  b\n```\n\n```json\n{{}}\n```\n"
    told = [(it.program, it.words[1:], it.variables, it.is_whole) for it in commands("p", text)]
    assert told == [
        ("janela", ("up",), {}, False),
        ("make", ("run",), {}, False),
        ("janela", ("x",), {"A": "1"}, True),
        ("", (), {"B": "2"}, True),
        ("helm", ("a", "b"), {}, True),
    ]


@pytest.mark.parametrize(
    ("words", "is_whole", "right"),
    [
        ("topics apply --strict", True, True),
        ("topics apply --stricter", True, False),
        ("topics apply --stricter", False, False),
        ("topics", False, True),
        ("topic apply", True, False),
        ("archive", False, True),
        ("archive", True, False),
        ("watch --limit none", True, False),
        ("measure compare a.json", True, False),
    ],
)
def test_a_command_that_janela_would_refuse_is_told_from_one_that_it_takes(
    words: str, is_whole: bool, right: bool
) -> None:
    assert (complaint(tuple(words.split()), is_whole) == "") is right


def test_every_command_of_janela_is_one_that_it_takes(
    found: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = [it for it in found if it.program == "janela"]
    for name in {word for it in ours for word in it.words if FILES.fullmatch(word)}:
        (tmp_path / name).touch()
    refused = [f"{it}: {why}" for it in ours if (why := complaint(it.words[1:], it.is_whole))]
    assert refused == []
    assert len(ours) > 50


def test_every_command_of_janela_is_run_somewhere(found: list[Command]) -> None:
    verbs = {it.words[1] for it in found if it.program == "janela" and it.is_whole}
    assert verbs - RUN_BY.keys() == set()
    for verb, test in RUN_BY.items():
        assert re.search(rf"\b{verb.rpartition('.')[2]}\b", read(ROOT / test)), verb


def test_every_other_command_is_a_target_of_make_or_is_known_not_to_be_run(
    found: list[Command],
) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for it in found:
        if it.program == "make":
            assert {word for word in it.words[1:] if "=" not in word} <= targets, it
            arguments = dict(word.split("=", 1) for word in it.words if "=" in word).get("ARGS", "")
            assert it.words[1] != "run" or complaint(("up", *arguments.split()), True) == "", it
        elif it.words and it.program != "janela":
            assert it.program in NOT_RUN or " ".join((it.program, *it.words[1:3])) in RUN_BY, it
    assert {it.program for it in found} >= NOT_RUN.keys(), "what is not there needs no reason"


def test_every_program_of_kafka_that_a_page_names_is_one_that_kafka_has() -> None:
    named = {(path.name, name) for path in pages() for name in re.findall(r"\bkafka-([a-z0-9-]+)\.sh\b", read(path))}
    assert {(page, name) for page, name in named if name not in KAFKAS} == set()
    assert len(named) > 5


def test_the_commands_of_runbooks_are_held_to_what_there_is_like_those_of_other_pages(found: list[Command]) -> None:
    assert {path.name for path in pages()} >= {path.name for path in (ROOT / "deploy/runbooks").iterdir()}
    assert any(it.page.startswith("deploy/runbooks/") and it.program == "janela" for it in found)


def test_every_variable_of_every_page_is_a_setting_with_a_value_that_is_allowed(
    found: list[Command],
) -> None:
    settings = {variable(name): name for name in Settings.model_fields}
    on_pages = {name for path in pages() for name in re.findall(rf"\b{ENV_PREFIX}[A-Z_]*[A-Z]\b", read(path))}
    assert on_pages - settings.keys() - NOT_SETTINGS == set()
    for it in found:
        given = {settings[name]: value for name, value in it.variables.items() if name.startswith(ENV_PREFIX)}
        try:
            Settings.model_validate(given)
        except ValidationError as error:
            pytest.fail(f"{it}: {error}")


def test_every_load_of_the_readme_has_a_plan(
    found: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (scenario,) = re.findall(r"```toml\n(.*?)```", read(ROOT / "README.md"), re.DOTALL)
    loads = [it for it in found if it.page == "README.md" and it.words[:2] == ("janela", "load") and it.is_whole]
    assert len(loads) == 4
    for it in loads:
        for name in filter(FILES.fullmatch, it.words):
            (tmp_path / name).write_text(scenario)
        told = CliRunner().invoke(app, [*it.words[1:], "--dry-run"])
        assert told.exit_code == 0, f"{it}: {told.output}"


def test_the_python_of_the_page_on_the_schemas_takes_a_good_event_and_no_other() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", read(ROOT / "schemas/README.md"), re.DOTALL)
    event = contract.good_example("window-opened", "by-text")
    exec(source, {"event": event})
    with pytest.raises(jsonschema.ValidationError, match="'sequence' is a required property"):
        exec(source, {"event": {name: value for name, value in event.items() if name != "sequence"}})


def test_the_policy_on_its_page_is_the_default_one_with_every_key() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", read(ROOT / "docs/policy.md"), re.DOTALL)
    assert load_policy(text) == Policy()
    fields = {name.removesuffix("_ms") for name in msgspec.structs.asdict(Policy())}
    assert tomllib.loads(text).keys() == fields - {"effects_from"}


def test_no_block_of_commands_hides_in_a_fence_without_a_name() -> None:
    for path in pages():
        for fence in re.findall(r"^```\n(.*?)^```", read(path), re.DOTALL | re.MULTILINE):
            assert not re.search(r"^(?:\$ )?(?:janela|make|helm|kubectl|docker) ", fence, re.MULTILINE), path
    assert shell_blocks("```\njanela up\n```") == []

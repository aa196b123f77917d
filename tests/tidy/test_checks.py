"""Each check of the repository can fail, and does not where it should not."""

import pytest

from tests.tidy import checks


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os.path",
        "from asyncio import sleep",
        "def f():\n    import socket",
        "from processor.settings import Settings",
        "from processor import topics",
        "import logging as struct",
        "__import__('time')",
        "open('x')",
        "print(1)",
        "datetime.now(UTC)",
    ],
)
def test_a_module_that_reaches_for_the_world_outside_is_not_pure(source: str) -> None:
    assert len(list(checks.impurities(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import msgspec",
        "from collections.abc import Iterable",
        "from processor.core.window import Window",
        "from processor.core import sending",
        "datetime.fromisoformat('2026-01-01')",
        "stream.open()",
    ],
)
def test_a_module_that_only_computes_is_pure(source: str) -> None:
    assert list(checks.impurities(source)) == []


def test_what_is_logged_is_found_with_its_level_and_a_name_that_is_no_constant_is_told() -> None:
    source = 'log.info("a.b", n=1)\nlog.error(name)\nlog.seek("x")\nother.info("c.d")'
    assert list(checks.logged(source)) == [("a.b", "info"), ("", "error")]


def test_a_print_is_found_and_writing_into_a_file_is_not() -> None:
    assert list(checks.prints("def f():\n    print(1)")) == ["line 2 prints"]
    assert list(checks.prints("print(1, file=sys.stderr)")) == ["line 1 prints"]
    assert list(checks.prints("console.print(1)\nprint(1, file=self.log)")) == []


def test_a_client_that_is_made_is_found_and_one_that_is_named_is_not() -> None:
    source = "async def f(consumer: AIOKafkaConsumer):\n    AIOKafkaProducer(acks=1)\n    aiokafka.AIOKafkaClient()"
    assert list(checks.clients(source)) == ["line 2 makes an AIOKafkaProducer", "line 3 makes an AIOKafkaClient"]
    assert list(checks.clients("connection.producer(acks=1)")) == []


def test_a_comment_does_not_stand_for_a_docstring() -> None:
    assert list(checks.missing_docstring("# what it is for\nx = 1")) == ["has no docstring"]
    assert list(checks.missing_docstring('"""What it is for."""')) == []


@pytest.mark.parametrize("name", ["test_window_close", "test_it", "test_one_two_three"])
def test_a_name_of_three_words_is_no_sentence(name: str) -> None:
    for source in (f"def {name}():\n    pass", f"class TestIt:\n    async def {name}(self):\n        pass"):
        assert [fault.partition(" ")[2].split()[1:] for fault in checks.short_names(source)] == [
            [name, "is", "no", "sentence"]
        ]


@pytest.mark.parametrize("name", ["test_a_window_closes_once", "window", "contest_it"])
def test_a_name_of_four_words_or_of_no_test_is_left_alone(name: str) -> None:
    assert list(checks.short_names(f"def {name}():\n    pass")) == []


@pytest.mark.parametrize(
    "text",
    [
        "cd /" + "work/main",
        "/" + "root/.cache",
        "open('/" + "home/ann/x')",
        "see .." + "/shared/contract.md",
        "https://" + "pypi" + ".org/simple",
        "https://files." + "pythonhosted" + ".org/x.whl",
        "--index" + "-url https://mirror",
    ],
)
def test_a_place_that_others_do_not_have_is_found(text: str) -> None:
    assert [fault.partition(" has ")[0] for fault in checks.places("first\n" + text)] == ["line 2"]


@pytest.mark.parametrize("text", ["net/work/x", "the home/office mix", "/opt/kafka/bin", "schemas/shared", "/var/lib"])
def test_a_place_that_everybody_has_is_left_alone(text: str) -> None:
    assert list(checks.places(text)) == []


def test_the_rules_in_scope_are_read_with_their_sentences() -> None:
    assert checks.rules_in_scope("W1   One for each contact\nE1a  The smallest fires at once\n") == {
        "W1": "One for each contact",
        "E1a": "The smallest fires at once",
    }


@pytest.mark.parametrize("text", ["W1", "X1 one for each contact", "W1 a b c d\nW1 a b c d", "W1 too short", "\n"])
def test_a_list_of_rules_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a new id and a sentence"):
        checks.rules_in_scope(text)


def test_rules_are_named_by_docstrings_of_tests_and_by_nothing_else() -> None:
    source = '''
"""W1"""

# W2
def test_a():
    """W3 E1a: and W13a."""
    x = "W4"

def helper():
    """W5"""

class Machine:
    """S1"""
    async def test_b(self):
        """S20x WW1 E2"""
'''
    assert checks.rules_named(source) == {"W3", "E1a", "W13a", "S1", "E2"}


def test_a_module_that_nothing_imports_is_an_orphan() -> None:
    modules = {
        "p": "",
        "p.main": "from p import used\nimport p.other",
        "p.used": "",
        "p.other": "import p.other\nfrom p.deep.down import x",
        "p.deep": "",
        "p.deep.down": "",
        "p.alone": "import p.alone",
    }
    assert list(checks.orphans(modules, ["p.main"])) == ["p.alone"]
    assert list(checks.orphans(modules, [])) == ["p.alone", "p.main"]


def test_third_party_modules_are_told_from_our_own_and_the_standard_ones() -> None:
    source = "import os\nfrom rich.table import Table\nfrom processor.core import window\ndef f():\n    import faust"
    assert checks.third_party(source, ["processor"], ["os"]) == {"rich", "faust"}


def test_what_a_module_takes_from_a_package_is_seen_at_any_depth() -> None:
    assert checks.imports("def f():\n    from processor.core import window", "processor")
    assert not checks.imports("from tests import scene  # for the processor", "processor")


def test_what_a_module_takes_from_one_part_of_a_package_can_be_left_out() -> None:
    assert not checks.imports("from processor.audit.model import run", "processor", besides="processor.audit")
    assert checks.imports("import processor.auditor", "processor", besides="processor.audit")


def test_only_lines_that_hold_code_are_counted() -> None:
    source = '''"""What it is."""

# why
x = (
    1,  # one
)


def f() -> str:
    """Do
    it.
    """
    return """a
b"""
'''
    assert checks.code_lines(source) == 6


@pytest.mark.parametrize(
    "lock", ["a==1\n    # via b", "a>=1 \\\n    --hash=sha256:00", "a @ https://x \\\n    --hash=sha256:0"]
)
def test_a_locked_package_without_version_or_hash_is_found(lock: str) -> None:
    assert len(list(checks.unhashed("# made\n" + lock))) == 1


def test_a_locked_package_with_version_and_hash_is_held() -> None:
    lock = "# made\na==1 ; python_version < '3.12' \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n    # via b\n"
    assert list(checks.unhashed(lock)) == []
    assert checks.pins(lock) == {"a": "1"}

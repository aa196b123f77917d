"""`janela` itself, and `janela config`: exit codes, what is printed and where."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from processor import __version__
from processor.cli.main import VERBS, laid_out, main
from processor.settings import Settings

pytestmark = pytest.mark.usefixtures("nothing_set")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def exit_code(*arguments: str) -> object:
    """Run `janela` and give the code that it exits with."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return caught.value.code


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"janela {__version__}\n"


def test_the_help_lists_every_verb_with_its_sentence_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert exit_code("--help") == 0
    out = capsys.readouterr().out
    width = max(map(len, VERBS)) + 2
    for verb, sentence in VERBS.items():
        assert f"  {verb:<{width}}{sentence}\n" in out
    assert "      janela up\n" in out


def test_the_help_waits_for_no_client_and_no_settings() -> None:
    words = "import sys, contextlib\nfrom processor.cli.main import main\n"
    words += "with contextlib.suppress(SystemExit): main(['--help'])\n"
    words += "print(sorted({'aiokafka', 'faust', 'pydantic', 'rich.console'} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_with_examples_and_exit_codes(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert exit_code(verb, "--help") == 0
    out = capsys.readouterr().out
    assert "Examples:" in out
    assert f"janela {verb}" in out
    assert "Exit codes:" in out


@pytest.mark.parametrize("verb", VERBS)
def test_no_help_of_a_verb_speaks_of_completion(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert exit_code(verb, "--help") == 0
    assert "--install-completion" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "verb",
    ["worker", "config", "watch", "verify", "rebuild", "topics apply", "topics check", "topics list", "topics acls"],
)
def test_a_verb_of_a_cluster_takes_the_settings_file_that_it_is_told(
    capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert exit_code(*verb.split(), "--config", "away.toml") == 2
    assert capsys.readouterr().err.startswith('JANELA_CONFIG: found "away.toml" (argument), No such file')


@pytest.mark.parametrize("size", ["foo", "1k", "63m", "64", "0m", "-1g", "64 m", "7" * 5000 + "m"])
def test_a_heap_that_no_broker_starts_with_is_refused_in_a_line(capsys: pytest.CaptureFixture[str], size: str) -> None:
    assert exit_code("kafka", "--heap", size, "--data", "/dev/null/x") == 2
    told = capsys.readouterr().err
    assert "expected a number and k, m or g, from 64m on" in " ".join(told.split())
    assert len(told) < 400


def test_a_folder_that_can_not_hold_data_is_named_with_what_is_expected(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("kafka", "--heap", "64m", "--data", "/proc/x") == 2
    assert capsys.readouterr().err.startswith(
        "janela kafka: /proc/x can't hold Kafka's data (No such file or directory)"
    )


def test_a_verb_that_is_none_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("wacth") == 2
    assert "Did you mean 'watch'?" in capsys.readouterr().err


def test_paragraphs_with_indented_lines_keep_them() -> None:
    assert laid_out("Do.\nMore.\n\nExamples:\n    janela x\n\nEnd.") == (
        "Do.\nMore.\n\n\b\nExamples:\n    janela x\n\nEnd."
    )
    assert laid_out("\b\nExamples:\n    janela x") == "\b\nExamples:\n    janela x"


def test_config_shows_each_setting_with_its_value_and_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("janela.toml").write_text('app_id = "shop"', "utf-8")
    monkeypatch.setenv("JANELA_PARTITIONS", "6")
    assert exit_code("config") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["app_id", "shop", "file", "janela.toml"] in rows
    assert ["partitions", "6", "environment", "JANELA_PARTITIONS"] in rows
    assert ["clock", "live", "default"] in rows
    assert rows.count(["enforcement", "enforce", "default"]) == 2  # the policy's, too


def test_config_shows_the_policy_in_the_words_of_its_file_with_the_source_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'name = "shop"\nclosed_retention = "100h"\nexpiring_before = ["4h"]\nwindow.default = "48h"\n'
    Path("policy.toml").write_text(f"{text}effects_from = 2026-11-22T15:47:19-03:00", "utf-8")
    monkeypatch.setenv("JANELA_POLICY_FILE", "policy.toml")
    monkeypatch.setenv("JANELA_EXPIRING_BEFORE", "90m,1h")
    assert exit_code("config") == 0
    out = capsys.readouterr().out
    before, rows = ([line.split() for line in part.splitlines()] for part in out.split("\nPolicy", 1))
    assert ["name", "shop", "file", "policy.toml"] in rows
    assert ["window", '{"default":', '"2d"}', "file", "policy.toml"] in rows
    assert ["closed_retention", "100h", "file", "policy.toml"] in rows
    assert ["expiring_before", '["90m",', '"1h"]', "environment", "JANELA_EXPIRING_BEFORE"] in rows
    assert ["effects_from", "2026-11-22T18:47:19.000Z", "file", "policy.toml"] in rows
    assert ["effects_from", "2026-11-22T18:47:19.000Z", "file", "policy.toml"] in before
    assert ["safety_margin", "1m", "default"] in rows


def test_config_gives_a_row_in_one_line_where_nobody_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = ",".join(f"kafka-broker-{n}.prod.example.internal:9092" for n in range(9))
    monkeypatch.setenv("JANELA_BOOTSTRAP_SERVERS", servers)
    assert exit_code("config") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["bootstrap_servers", servers, "environment", "JANELA_BOOTSTRAP_SERVERS"] in rows


def test_config_explains_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("config", "--explain") == 0
    assert "a whole number from 5 to 1000" in " ".join(capsys.readouterr().out.split())


def test_config_in_json_has_settings_and_policy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JANELA_EXPIRING_BEFORE", "4h,1h")
    assert exit_code("config", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"].keys() == Settings.model_fields.keys()
    assert found["settings"]["expiring_before"]["value"] == "4h,1h"
    assert found["settings"]["expiring_before"]["source"] == "environment JANELA_EXPIRING_BEFORE"
    assert found["settings"]["partitions"]["environment"] == "JANELA_PARTITIONS"
    assert found["policy"]["expiring_before"] == {
        "value": ["4h", "1h"],
        "source": "environment JANELA_EXPIRING_BEFORE",
    }
    assert found["policy"]["safety_margin"] == {"value": "1m", "source": "default"}
    assert found["policy"]["version"] == Settings(expiring_before="4h,1h").policy().version


def test_config_with_errors_tells_all_of_them_on_stderr_and_exits_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JANELA_PARTITIONS", "0")
    monkeypatch.setenv("JANELA_CLOK", "event")
    assert exit_code("config") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[0] for line in err.splitlines()] == ["JANELA_CLOK", "JANELA_PARTITIONS"]


def test_config_takes_the_file_that_it_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("partitions = 3", "utf-8")
    assert exit_code("config", "--config", "other.toml") == 0
    assert "file other.toml" in capsys.readouterr().out
    assert exit_code("config", "--config", "away.toml") == 2
    assert capsys.readouterr().err.startswith('JANELA_CONFIG: found "away.toml" (argument), No such file')

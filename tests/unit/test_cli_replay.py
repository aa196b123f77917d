"""What `janela replay`, `janela archive` and `janela measure replay` refuse before they ask a cluster for anything."""

import os
from pathlib import Path

import pytest

from processor.cli.main import main
from processor.cli.selection import is_ago, selection_of
from processor.replay.selection import Selection

REPLAY = ("replay", "--to-prefix", "lab.")
MEASURE = ("measure", "replay", "--from-prefix", "prod.", "--rate", "5")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*REPLAY, "--speed", "2", "--rate", "3"), "either --speed or --rate"),
        ((*REPLAY, "--id", "a b"), "found 'a b'"),
        ((*REPLAY, "--since", "yesterday"), "found 'yesterday', expected RFC 3339 with a zone, or how long ago"),
        ((*REPLAY, "--offsets", "5"), "found '5', expected a range such as 100:200"),
        ((*REPLAY, "--offsets", "5:1"), "--offsets: found 5:1, in which nothing can be"),
        ((*REPLAY, "--since", "1h", "--until", "2h"), "--since, --until: found 1h to 2h, in which nothing can be"),
        ((*REPLAY, "--from-archive", "none.zst"), "none.zst: No such file"),
        (("replay", "--to-prefix", "here."), "it is where the records come from"),
        (("archive", "a.zst", "--pseudonyms-key", "none"), "--pseudonyms-key: none: No such file or directory"),
        (("archive", "/dev/null"), "found /dev/null, which is there and no regular file"),
        (("archive", "pipe"), "found pipe, which is there and no regular file"),
        (("archive", "."), "found ., expected the name of a file"),
        (("load", "--start", "-99999d"), "found '-99999d', expected 1970 or later"),
        (
            (*REPLAY, "--to-bootstrap-servers", "nonsense"),
            'JANELA_BOOTSTRAP_SERVERS (bootstrap_servers): found "nonsense"',
        ),
        (("replay", "--to-prefix", "a/"), 'JANELA_TOPIC_PREFIX (topic_prefix): found "a/" (argument)'),
        ((*MEASURE, "--from-bootstrap-servers", "nonsense"), "JANELA_BOOTSTRAP_SERVERS (bootstrap_servers): found"),
        ((*MEASURE, "--report", "none/a.json"), "none/a.json can't be written"),
        ((*MEASURE, "--html", "."), ". can't be written"),
        (("measure", "--rate", "9", *MEASURE[1:]), "--rate: it stands before replay"),
        (("measure", "--json", "compare", "a", "b"), "--json: it stands before compare"),
    ],
)
def test_an_option_that_can_not_be_used_is_named(
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JANELA_TOPIC_PREFIX", "here.")
    os.mkfifo("pipe")
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_options_that_are_not_given_select_everything() -> None:
    assert selection_of(None, None, None, None, None, None) == Selection()


def test_a_range_may_lack_its_begin_or_its_end() -> None:
    assert selection_of(None, [2, 0, 2], None, None, ":9", ["5511"]) == Selection(
        partitions=(0, 2), to_offset=9, contacts=frozenset({b"5511"})
    )


@pytest.mark.parametrize(("moment", "is_told"), [("24h", True), ("2026-11-22T00:00:00Z", False), (None, False)])
def test_how_long_ago_is_another_moment_at_each_start(moment: str | None, is_told: bool) -> None:
    assert is_ago(moment) is is_told

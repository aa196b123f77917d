"""How a verb says how far it is."""

import pytest

from processor.cli import progress
from processor.cli.progress import progress_shown


def test_in_a_log_a_step_is_one_line_however_long_it_is_and_says_what_it_was_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0)
    with progress_shown() as shown:
        shown.note("[bold]sent", 1234, 5678, f", {'lag 3, ' * 20}p99 7 ms")
    assert capsys.readouterr().err == f"[bold]sent: 1,234 of 5,678 records, {'lag 3, ' * 20}p99 7 ms\n"

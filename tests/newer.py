"""A later janela, as far as its state goes: it writes version 2 of the state records, and reads 1 and 2.

Run as `python -m tests.newer VERB`, like `python -m processor`.
"""

from processor.cli.main import main
from processor.codec import state

state.VERSIONS = (1, 2)  # type: ignore[misc, assignment]

main()

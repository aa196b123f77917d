"""``python -m processor`` is ``janela``; both begin here, since what the verbs import takes a while."""

import sys

from processor.cli.early import end_at_once


def main() -> None:
    """Run `janela` and exit."""
    end_at_once(sys.argv[1:])
    from processor.cli.main import main as janela

    janela()


if __name__ == "__main__":
    main()

"""``python -m processor`` is ``janela``."""

from processor.cli.main import main

if __name__ == "__main__":
    main()

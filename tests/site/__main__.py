"""What the site is built from: ``python -m tests.site FOLDER`` lays every page there, and every file that one links to.

They lie as they do in the repository, so that a link that holds here holds there. A list or a table that follows a line
of text gets a blank line before it: forges know it without, the Markdown of MkDocs does not.
"""

import shutil
import sys
from pathlib import Path

from tests.documents import ROOT, blocks, links, pages


def lay_out(folder: Path) -> None:
    """Begin the folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in {target for page in pages() for target in (page, *_linked(page)) if target.is_file()}:
        laid = folder / path.relative_to(ROOT)
        laid.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            laid.write_text(spaced(path.read_text("utf-8")), "utf-8")
        else:
            shutil.copyfile(path, laid)


def spaced(text: str) -> str:
    """Put a blank line before each list and table that has none."""
    lines = text.split("\n")
    for start in reversed(blocks(text, "bullet_list_open", "ordered_list_open", "table_open")):
        if start and lines[start - 1].strip():
            lines.insert(start, "")
    return "\n".join(lines)


def _linked(page: Path) -> list[Path]:
    files = (link.partition("#")[0] for link in links(page.read_text("utf-8")) if "://" not in link)
    return [(page.parent / file).resolve() for file in files if file]


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))

#!/usr/bin/env python3
"""Checks that every relative link and picture of the repository's pages leads to an existing file, and a link to an existing heading in it.

usage: links.py [PAGE ...]      all Markdown files that git tracks, unless pages are named
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pages():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, check=True, text=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def without_code(text):
    """The text without fenced blocks and code spans, which show links but do not create them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = 0
        while f"{anchor}-{count}" in found or (count == 0 and anchor in found):
            count += 1
        found.add(f"{anchor}-{count}" if count else anchor)
    # And those that a page defines itself.
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def wrong_links(page):
    text = without_code(page.read_text(encoding="utf-8"))
    links = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text) + re.findall(r'<(?:img|source) [^>]*src(?:set)?="([^"]+)"', text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: there is no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{link}: there is no such heading"


def main():
    named = [pathlib.Path(name).resolve() for name in sys.argv[1:]] or pages()
    wrong = [f"{page.relative_to(ROOT)}: {what}" for page in named for what in wrong_links(page)]
    print("\n".join(wrong) or f"every link of {len(named)} pages leads somewhere")
    sys.exit(len(wrong) > 0 or not named)


if __name__ == "__main__":
    main()

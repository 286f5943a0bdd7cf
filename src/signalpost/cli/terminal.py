"""Writing for people, on a terminal or into a file."""

from __future__ import annotations

import unicodedata

from rich.console import Console


def standard_output() -> Console:
    """Return a console that writes what it is given: no markup, no guessing, no emoji codes."""
    return Console(highlight=False, markup=False, emoji=False)


def visible(text: str, *, keep: str = "") -> str:
    r"""Write every character that could steer a terminal as its escape, such as \x1b.

    These are all of Unicode's categories C and line separators, except those in `keep`.
    """
    return "".join(
        character if character in keep or not _steers(character) else _escape(character)
        for character in text
    )


def _steers(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith("C") or category in ("Zl", "Zp")


def _escape(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"

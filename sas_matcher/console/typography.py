"""French typography of the templates: the spaces inside « » and before ; : ? ! % never break a line."""

import re
from typing import Final

from jinja2.ext import Extension

# what stands in Jinja's braces or in a tag is no text
_NO_TEXT: Final = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|<[^>]*>)", re.DOTALL)
_SPACE: Final = re.compile(r"(?<=«) | (?=[»;:?!%])")


def set_in_french(source: str) -> str:
    """Return a template whose text keeps its punctuation together."""
    parts = _NO_TEXT.split(source)
    parts[::2] = [_SPACE.sub("\u00a0", part) for part in parts[::2]]
    return "".join(parts)


class FrenchSpaces(Extension):
    """Sets each template when it is loaded, once."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """See ``Extension.preprocess``."""
        return set_in_french(source)

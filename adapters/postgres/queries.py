"""The named queries of ``queries.sql``."""

from importlib.resources import files
from typing import Final


def load_queries(text: str) -> dict[str, str]:
    """Split a file of ``-- name:`` blocks into {name: sql}."""
    queries: dict[str, str] = {}
    for block in text.split("-- name:")[1:]:
        name, _, body = block.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        queries[name.strip()] = "\n".join(lines).strip()
    return queries


QUERIES: Final = load_queries(files("adapters.postgres").joinpath("queries.sql").read_text(encoding="utf-8"))

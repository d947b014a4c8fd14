"""The packages of the extra `serve`, looked for before the server is imported."""

from __future__ import annotations

from tfguide.text.packages import import_extra

PACKAGES = ("pydantic", "starlette", "uvicorn", "prometheus_client")


def check_packages() -> None:
    """Raises ImportError, which says how to install it, for a package that the server needs and that is not there."""
    for name in PACKAGES:
        import_extra(name, "the server needs", "serve")

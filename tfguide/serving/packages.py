"""The packages of the extras `serve` and `ray`, looked for before what needs them is imported."""

from __future__ import annotations

from tfguide.text.packages import import_extra

PACKAGES = ("pydantic", "starlette", "uvicorn", "prometheus_client")


def check_packages() -> None:
    """Raises ImportError, which says how to install it, for a package that the server needs and that is not there."""
    for name in PACKAGES:
        import_extra(name, "the server needs", "serve")


def check_ray() -> None:
    """Raises ImportError, as `check_packages`, where Ray is not there."""
    import_extra("ray", "several replicas need", "ray")

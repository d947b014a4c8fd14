"""What the compiled kernels say of themselves."""

from __future__ import annotations

from tfguide.native.library import library


def level() -> str:
    """The instructions that the kernels were built for, such as "AVX-512 with VNNI", read from the compiled library.

    Builds the kernels if they are not built yet. Raises NativeUnavailable as `library`.
    """
    return library().tfguide_isa().decode()

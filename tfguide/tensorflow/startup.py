"""Import TensorFlow and Keras with the settings of this package, or raise a clear error."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile

from tfguide.triton import load_triton

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before Keras is imported, because it chooses its backend once


@contextlib.contextmanager
def _held_stderr():
    """Hold back what is written to file descriptor 2, and release it if the import fails.

    TensorFlow 2.21 writes its greetings before it reads TF_CPP_MIN_LOG_LEVEL, from C++, so Python cannot catch them.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            with os.fdopen(os.dup(kept), "wb") as out:
                shutil.copyfileobj(held, out)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


load_triton()  # before TensorFlow loads it
_wants_silence = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") > "0"
try:
    with _held_stderr() if _wants_silence else contextlib.nullcontext():
        import tensorflow  # noqa: F401, I001  first, so that an error names TensorFlow, not a part of it
        import keras
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] not in ("keras", "tensorflow"):
        raise
    raise ImportError(
        "tfguide.tensorflow needs TensorFlow: install it with pip install 'tfguide[tensorflow]'"
    ) from error

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"tfguide.tensorflow needs Keras on TensorFlow, got the backend {keras.backend.backend()!r}: "
        "set KERAS_BACKEND=tensorflow before Keras is imported"
    )

"""Who may import whom (the layout in the README), read from the source, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tfguide"
FRAMEWORKS = {"torch", "tensorflow", "keras", "transformers", "keras_hub"}
BASE = {"numpy", "safetensors", "tfguide"} | set(sys.stdlib_module_names)
SHARED = {
    "config",
    "dtypes",
    "parts",
    "presets",
    "weights",
    "frequencies",
    "initialization",
    "checks",
    "sharding",
    "checkpoints",
    "generation",
    "compress",
    "native",
    "scalings",
    "training",
    "triton",
}
FREE = [
    *sorted(SHARED),
    "weight_rows",
    "reference",
    "tasks",
    "text",
    "cost",
    "exercises",
    "loading",
    "temporary",
    "versions",
    "facts",
    "serving",
]


def imports(path):
    """The modules that a file imports, by their dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def files(part):
    path = PACKAGE / part
    return sorted(path.rglob("*.py")) if path.is_dir() else [p for p in [path.with_suffix(".py")] if p.exists()]


def parts(names):
    """The parts of the package that are imported: 'torch' of tfguide.torch.attention."""
    return {name.split(".")[1] for name in names if name.startswith("tfguide.")}


@pytest.mark.parametrize("part", FREE)
def test_these_import_no_framework(part):
    for path in files(part):
        names = list(imports(path))
        outside = {name.split(".")[0] for name in names}
        # These are extras, imported in the function that needs them
        allowed = BASE | {
            "checkpoints": {"gguf"},
            "tasks": {"rouge_score", "sacrebleu", "seqeval", "sklearn"},
            "serving": {"prometheus_client", "pydantic", "ray", "starlette", "uvicorn"},
            "text": {"jinja2"},
            "triton": {"triton"},
        }.get(part, set())
        assert outside <= allowed, f"{path.name} imports {outside - allowed}"
        assert not parts(names) & {"torch", "tensorflow", "bench", "cli", "export", "figures"}, path


def test_every_part_is_in_a_list():
    """cli, bench, export and figures may import frameworks, and nothing but __main__.py imports the command line."""
    found = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert found - {"__init__", "__main__", "__pycache__"} == {
        *FREE,
        "torch",
        "tensorflow",
        "bench",
        "cli",
        "export",
        "figures",
    }
    users = [path for path in PACKAGE.rglob("*.py") if "cli" in parts(imports(path)) and path.parent.name != "cli"]
    assert users == [PACKAGE / "__main__.py"]


@pytest.mark.parametrize(("part", "other"), [("torch", {"tensorflow", "keras"}), ("tensorflow", {"torch"})])
def test_the_frameworks_never_meet(part, other):
    assert files(part)
    for path in files(part):
        names = list(imports(path))
        outside = {name.split(".")[0] for name in names}
        assert not outside & other, path
        assert parts(names) <= SHARED | {part}, f"{path} imports {parts(names)}"


def test_the_cost_model_reads_checkpoints_and_not_the_other_way_round():
    for path in files("checkpoints"):
        assert not parts(imports(path)) & {"cost", "bench", "loading"}, path


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_package_imports_no_framework():
    loaded = set(run("import sys, tfguide; print(*{name.split('.')[0] for name in sys.modules})").split())
    assert "tfguide" in loaded
    assert not loaded & (FRAMEWORKS | {"matplotlib", "safetensors"})


def test_the_package_imports_at_once():
    # Seconds of the processor, which other tests beside this one do not stretch much; the least of several runs.
    code = "import time; a = time.process_time(); import tfguide; print(time.process_time() - a)"
    assert min(float(run(code)) for _ in range(5)) < 0.2


@pytest.mark.parametrize(("name", "extra"), [("torch", "torch"), ("tensorflow", "tensorflow"), ("keras", "tensorflow")])
def test_a_missing_framework_is_named_with_its_extra(name, extra):
    code = f"""
import sys
sys.modules[{name!r}] = None  # as if it were not installed
try:
    import tfguide.{extra}
except ImportError as error:
    print(type(error).__name__, error)
"""
    printed = run(code)
    assert printed.startswith("ImportError ")
    assert f"pip install 'tfguide[{extra}]'" in printed


def test_a_foreign_keras_backend_is_refused():
    code = """
import os
os.environ["KERAS_BACKEND"] = "torch"
try:
    import tfguide.tensorflow
except ImportError as error:
    print(error)
"""
    assert "KERAS_BACKEND=tensorflow" in run(code)

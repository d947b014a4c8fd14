"""Count the ARM instructions of a product of rows with a matrix: ours, and llama.cpp's beside it.

    python tools/instructions/count.py --llama-cpp llama_cpp_python-0.3.36/vendor/llama.cpp

writes book/appendices/benchmarks/arm_instructions.json. Both are built by one compiler for ARM with the same -march,
and qemu executes them. Instructions are counted and nothing is timed: one may take a processor one cycle or four. A
count is the difference of a program that computes more products and one that computes fewer. What makes the rows ready
(rounding, arranging) is part of it; one thread computes all outputs.

The source of llama.cpp comes with `pip download --no-binary :all: --no-deps llama-cpp-python==0.3.36`; without
--llama-cpp only ours are counted. Needs the packages g++-aarch64-linux-gnu and qemu-user, and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

from tfguide.native import abi, compiler
from tfguide.native.library import FOLDER

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "book" / "appendices" / "benchmarks" / "arm_instructions.json"
COMPILER, EMULATOR, PROCESSOR = "aarch64-linux-gnu-g++", "qemu-aarch64", "max"
LEVELS = ("armv8-a", "armv8.2-a+dotprod", "armv8.2-a+dotprod+i8mm+bf16")
FORMATS = {  # of the kernels, for each type of weights
    "float32": "float32 rows", "bfloat16": "bfloat16 rows", "float16": "float16 rows",
    "int8": "int8 a8", "int4": "int4 a8",
}  # fmt: skip
ROWS, D_IN, D_OUT = (1, 16), 768, 768
FEWER, MORE = 2, 4  # products of a run
GGML = (
    "ggml-quants.c", "ggml-cpu/arch/arm/quants.c", "ggml-cpu/quants.c", "ggml-cpu/vec.cpp",
    "ggml-cpu/arch/arm/repack.cpp", "ggml-cpu/repack.cpp", "ggml-cpu/llamafile/sgemm.cpp", "ggml.c",
)  # fmt: skip


def run(*words: object) -> str:
    """Run a command and return what it wrote to stderr; end with it if it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")
    return done.stderr


def build_plugin(folder: Path) -> Path:
    """The plugin of qemu that counts."""
    plugin = folder / "plugin.so"
    run("cc", "-O2", "-shared", "-fPIC", HERE / "plugin.c", "-o", plugin)
    return plugin


def build_ours(level: str, folder: Path) -> Path:
    """The program with our kernels for a level."""
    program = folder / f"ours-{level}"
    run(COMPILER, *compiler.FLAGS, f"-march={level}", "-static", f"-I{FOLDER}", HERE / "ours.cpp", "-o", program)
    return program


def build_llama(level: str, folder: Path, llama: Path) -> Path:
    """The program with the kernels of llama.cpp for a level: its files, without what is not called."""
    source, program = llama / "ggml" / "src", folder / f"llama-{level}"
    (folder / "ggml-version.h").write_text('#define GGML_VERSION ""\n#define GGML_COMMIT ""\n')
    includes = [f"-I{path}" for path in (folder, source, llama / "ggml" / "include", source / "ggml-cpu")]
    options = [
        "-O3",
        "-DNDEBUG",
        "-D_GNU_SOURCE",
        "-DGGML_USE_LLAMAFILE",
        "-ffunction-sections",
        "-fdata-sections",
        "-w",
    ]
    objects = []
    for file in (*(source / name for name in GGML), HERE / "llama.cpp"):
        objects.append(folder / f"{level}-{len(objects)}.o")
        language = ["-std=c++17"] if file.suffix == ".cpp" else ["-xc", "-std=gnu11"]
        command = COMPILER if file.suffix == ".cpp" else COMPILER.replace("g++", "gcc")
        run(command, *language, *options, f"-march={level}", *includes, "-c", file, "-o", objects[-1])
    run(COMPILER, "-static", "-Wl,--gc-sections", *objects, "-lm", "-o", program)
    return program


def count(program: Path, plugin: Path, kind: int, rows: int) -> float:
    """The instructions of one product."""

    def executed(products):
        words = (EMULATOR, "-cpu", PROCESSOR, "-plugin", plugin, program, kind, rows, D_IN, D_OUT, products)
        return int(re.search(r"instructions: (\d+)", run(*words)).group(1))

    return (executed(MORE) - executed(FEWER)) / (MORE - FEWER)


def counts(llama: Path | None) -> list[dict]:
    """The counts for each level, type of weights and number of rows: ours, and llama.cpp's if its source is given."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plugin = build_plugin(folder)
        for level in LEVELS:
            programs = {"tfguide": build_ours(level, folder)}
            if llama is not None:
                programs["llama.cpp"] = build_llama(level, folder, llama)
            for i, (dtype, form) in enumerate(FORMATS.items()):
                for rows in ROWS:
                    row = {"level": level, "dtype": dtype, "rows": rows}
                    for who, program in programs.items():
                        kind = abi.code("Format", form) if who == "tfguide" else i
                        row[who] = count(program, plugin, kind, rows)
                    found.append(row)
                    print(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-cpp", type=Path, help="the folder of llama.cpp's source, in which ggml lies")
    parser.add_argument("--json", type=Path, default=TARGET, help="the file to write (default: that of the book)")
    arguments = parser.parse_args()
    version = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    found = {"compiler": version, "d_in": D_IN, "d_out": D_OUT, "rows": counts(arguments.llama_cpp)}
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

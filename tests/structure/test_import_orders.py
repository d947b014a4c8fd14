"""Whichever framework is imported first, by us or by the reader, the other one works, with triton installed.

Each order runs in a process of its own, since what is imported stays: a fork of the process that has imported the
order's beginning. triton comes with PyTorch's CUDA build; beside the CPU build, `make triton` puts it into a folder of
the environment.
"""

import functools
import importlib.util
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(sys.prefix) / "triton"  # where `make triton` puts it
MODULES = ("torch", "tensorflow", "tfguide.torch", "tfguide.tensorflow")
BARE = {"tfguide.torch": "torch", "tfguide.tensorflow": "tensorflow"}


def tells_something(order):
    """Whether both packages are in it, and no framework comes after its package, where importing it does nothing."""
    places = {name: i for i, name in enumerate(order)}
    return all(p in places and places.get(bare, -1) < places[p] for p, bare in BARE.items())


ORDERS = [order for n in (2, 3, 4) for order in permutations(MODULES, n) if tells_something(order)]
QUICK = ("tfguide.tensorflow", "tfguide.torch")

#: What a reader may do then: models in both frameworks, an optimizer, which imports PyTorch's compiler, and XLA.
USE = """
import sys
import numpy as np
import tfguide, tfguide.reference, tfguide.torch, tfguide.tensorflow, torch
import tensorflow as tf

config = tfguide.ModelConfig(
    kind="decoder", d_model=20, n_layers=2, n_heads=5, d_ff=13, vocab_size=17, max_positions=23
)
weights = tfguide.init_weights(config)
prompts = [[1, 2, 3], [4, 5]]
expected = tfguide.reference.generate(tfguide.reference.from_weights(config, weights), prompts, 7)
models = {m: m.from_weights(config, weights) for m in (tfguide.torch, tfguide.tensorflow)}
assert all(m.generate(model, prompts, 7) == expected for m, model in models.items())

weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([weight])
weight.sum().backward()
optimizer.step()
assert "torch._dynamo" in sys.modules
x = tf.ones((3, 3))
np.testing.assert_allclose(tf.function(tf.nn.softmax, jit_compile=True)(x @ x), 1 / 3, atol=1e-6)
"""

#: Runs `USE` after each order that begins with the module `first`: every import and every use in a fork. What `USE` has
#: imported is written to a file that is named for the order.
TREE = """
import os, sys, traceback
def in_a_fork(work, *arguments):
    sys.stderr.flush()
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            print(*arguments, "ends with", status, file=sys.stderr)
        return
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def grow(order):
    __import__(order[-1])
    if order in orders:
        in_a_fork(use, order)
    for name in {other[len(order)] for other in orders if other[: len(order)] == order != other}:
        in_a_fork(grow, (*order, name))

def use(order):
    exec(code, {})
    with open(" ".join(order), "w") as file:
        print(*sys.modules, file=file)

in_a_fork(grow, (first,))
"""

#: triton's own compiler, all the way to a GPU's instructions, for which no GPU is needed.
KERNEL = """
import triton
import triton.language as tl

@triton.jit
def increment(x, y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i) + 1.0)

source = triton.compiler.ASTSource(increment, {"x": "*fp32", "y": "*fp32", "BLOCK": "constexpr"}, {"BLOCK": 128})
target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
assert "add.f32" in triton.compile(source, target=target).asm["ptx"]
print("compiled")
"""


@pytest.fixture(scope="module")
def python():
    """A function that runs code with a real triton beside, and returns what it prints."""
    installed = importlib.util.find_spec("triton") is not None
    if not installed and not FOLDER.is_dir():
        pytest.skip("no triton here: PyTorch's CUDA build brings it, beside the CPU build `make triton` installs it")

    def run(code, *arguments, folder=None, **variables):
        path = os.pathsep.join([str(ROOT), *([] if installed else [str(FOLDER)]), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, *(arguments or ("-c", code))],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path.strip(os.pathsep), **variables},
            capture_output=True,
            text=True,
            timeout=500,
        )

    return run


def succeeds(run):
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stdout}{run.stderr}"
    return run.stdout


@pytest.fixture(scope="module")
def tree_of(python, tmp_path_factory):
    """A function of a module: the folder of what `TREE` writes for the orders that begin with it, and its errors."""

    @functools.cache
    def run(first):
        folder = tmp_path_factory.mktemp("orders")
        return folder, python(f"orders, first, code = {ORDERS!r}, {first!r}, {USE!r}\n{TREE}", folder=folder).stderr

    return run


@pytest.mark.slow
def test_the_two_cannot_meet_without_help(python):
    """Where this fails, triton or TensorFlow has mended the clash, and `tfguide.triton` can go."""
    assert python("import tensorflow, triton").returncode < 0


@pytest.mark.parametrize(
    "order",
    [pytest.param(o, id=" ".join(o), marks=[] if o == QUICK else [pytest.mark.slow]) for o in ORDERS],
)
def test_every_order(tree_of, order):
    folder, errors = tree_of(order[0])
    modules = folder / " ".join(order)
    assert modules.exists(), errors
    assert "triton" in modules.read_text().split()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["keras", "keras_hub"])
def test_what_brings_tensorflow_along(python, first):
    succeeds(python(f"import {first}\nimport tfguide.torch\n{USE}"))


@pytest.mark.slow
@pytest.mark.parametrize("package", BARE)
def test_other_libraries_that_compile_follow(python, package):
    """transformers and sentence-transformers import PyTorch's compiler at once, FlopCounterMode imports triton."""
    code = (
        "import tensorflow\n"
        f"import {package}\n"
        "from torch.utils.flop_counter import FlopCounterMode\n"
        "from transformers import GPT2LMHeadModel\n"
        "import sentence_transformers\n"
    )
    succeeds(python(code))


@pytest.mark.slow
@pytest.mark.parametrize("first", BARE.values())
def test_triton_compiles_beside_tensorflow(python, tmp_path, first):
    script = tmp_path / "kernel.py"  # triton reads the source of a kernel from its file
    script.write_text(f"import {first}\nimport tfguide.torch\n{USE}{KERNEL}")
    printed = succeeds(python("", str(script), TRITON_CACHE_DIR=str(tmp_path / "cache")))
    assert printed.split() == ["compiled"]


@pytest.mark.slow
@pytest.mark.parametrize("first", BARE.values())
def test_a_compiled_step_gives_the_same_tokens(python, first):
    code = """
compiled = tfguide.torch.CompiledDecoder(models[tfguide.torch], max_length=23, batch_size=2)
assert compiled.generate(prompts, 7) == expected
assert compiled.n_programs == 1, "nothing was compiled"
compiled = tfguide.tensorflow.CompiledDecoder(models[tfguide.tensorflow], max_length=23, batch_size=2)
assert compiled.generate(prompts, 7) == expected
assert compiled.n_programs == 1, "nothing was compiled"
"""
    succeeds(python(f"import {first}\n{USE}{code}"))


@pytest.mark.slow
def test_two_threads_import_at_once(python):
    code = """
import threading
def import_one(name):
    barrier.wait()
    __import__(name)
names = ("tfguide.torch", "tfguide.tensorflow", "tensorflow", "torch")
barrier = threading.Barrier(len(names))
threads = [threading.Thread(target=import_one, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    succeeds(python(code + USE))


@pytest.mark.slow
def test_a_forked_process_goes_on(python):
    code = """
import os
pid = os.fork()
if pid == 0:  # what a data loader or a server does: the child inherits what is loaded
    import torch.utils.flop_counter, triton.language
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    succeeds(python(f"import tensorflow, tfguide.torch\n{code}"))


@pytest.mark.slow
def test_the_linker_is_left_as_it_was(python):
    code = """
import sys
before = sys.getdlopenflags()
import tensorflow, tfguide.torch
assert sys.getdlopenflags() == before
"""
    succeeds(python(code))


@pytest.mark.slow
@pytest.mark.parametrize("only", BARE.values())
def test_nothing_is_loaded_for_a_meeting_that_cannot_take_place(python, only):
    code = f"import sys, tests.single.conftest, tfguide.{only}\nprint('triton' in sys.modules)"
    assert succeeds(python(code, TFGUIDE_ONLY=only)).split() == ["False"]


@pytest.mark.slow
@pytest.mark.parametrize("package", BARE)
def test_a_missing_triton_is_no_error(python, package):
    succeeds(python(f"import sys; sys.modules['triton'] = None\nimport {package}"))


def test_building_and_running_a_model_imports_no_compiler():
    """TensorFlow is hidden, since with it triton is imported for its sake."""
    code = """
import sys
sys.modules["tensorflow"] = None
import tfguide, tfguide.torch as tg
from tests.support import batch, small_config
for kind in ("encoder", "decoder", "encoder-decoder"):
    for options in ({}, {"positions": "relative"}, {"positions": "rotary", "norm": "rms", "activation": "swiglu"}):
        config = small_config(kind, **options)
        weights = tfguide.init_weights(config)
        model = tg.from_weights(config, weights)
        inputs, masks = batch(config)
        model(*inputs, **masks)
        if kind == "decoder":
            tg.generate(model, [[1, 2, 3], [4]], 5)
            tg.generate(tg.quantize(model), [[1, 2, 3], [4]], 5)
    found = [name for name in ("torch._dynamo", "torch._inductor", "triton", "sympy") if name in sys.modules]
    print(f"{kind}: {found}")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert succeeds(run).split("\n") == ["encoder: []", "decoder: []", "encoder-decoder: []", ""]

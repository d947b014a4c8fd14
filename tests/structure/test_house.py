"""Imports point downwards, nothing private is used across modules, nothing is guessed, and nothing is patched."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tfguide"
FILES = sorted(PACKAGE.rglob("*.py"))

#: From the ground up: a part imports from its own floor and from those below.
FLOORS = [
    {"checks.values", "temporary", "triton"},
    {"parts", "scalings", "dtypes", "facts", "checks.rotary", "checks.combinations"},
    {"presets"},
    {"config"},
    {"checks.shapes", "frequencies"},
    {"weight_rows", "weights", "initialization"},
    {"generation"},
    {"compress"},
    {"native", "checkpoints", "text"},
    {"serving"},
    {"reference", "tasks", "loading", "sharding", "versions", "training"},
    {"cost"},
    {"exercises"},
    {"torch", "tensorflow"},
    {"export"},
    {"bench", "figures"},
    {"cli"},
]


def ids(path):
    return str(path.relative_to(PACKAGE))


def module_of(path):
    return ".".join(("tfguide", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


def imported(tree):
    """The modules of this package that a file imports, at its top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tfguide")
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "tfguide":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else node.module


def floor_of(module):
    """The number of the floor on which a module lives; 0 is the ground."""
    name = module.removeprefix("tfguide.")
    return next(i for i, floor in enumerate(FLOORS) for part in floor if name == part or name.startswith(f"{part}."))


def has_floor(module):
    return module not in ("tfguide", "tfguide.checks", "tfguide.__main__")  # these hold names, and no code


def test_every_part_has_a_floor():
    assert len({part for floor in FLOORS for part in floor}) == sum(map(len, FLOORS))
    for module in filter(has_floor, MODULES):
        floor_of(module)


@pytest.mark.parametrize("path", [path for path in FILES if has_floor(module_of(path))], ids=ids)
def test_imports_point_downwards(path):
    own = module_of(path)
    for module in imported(ast.parse(path.read_text())):
        if module == "tfguide":  # `import tfguide` in what stands above the package
            assert floor_of(own) >= floor_of("tfguide.bench"), f"{own} imports the package itself"
        else:
            assert floor_of(module) <= floor_of(own), f"{own} imports {module} from a floor above"


def test_imports_have_no_circle():
    graph = {module_of(path): set(imported(ast.parse(path.read_text()))) - {module_of(path)} for path in FILES}
    done, stack = set(), []

    def visit(module):
        assert module not in stack, " -> ".join([*stack[stack.index(module) :], module])
        if module in done or module == "tfguide":
            return
        stack.append(module)
        for other in graph.get(module, ()):
            visit(other)
        stack.pop()
        done.add(module)

    for module in graph:
        visit(module)


#: What ctypes asks for, and an operator of PyTorch that only its own compiler calls, which `faster_product` looks for.
ALLOWED = {"_fields_", "_linear_pointwise"}


def is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_private_is_used_across_modules(path):
    tree = ast.parse(path.read_text())
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {node.target.id for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and is_name(node.target)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not any(is_private(alias.name) for alias in node.names), f"line {node.lineno}: a private import"
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own | ALLOWED:
            raise AssertionError(f"line {node.lineno}: {ast.unparse(node)} belongs to another module")


def is_name(node):
    return isinstance(node, ast.Name)


def is_self(node):
    called = node.func if isinstance(node, ast.Call) else node
    return is_name(called) and called.id in ("self", "cls", "super")


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_is_guessed(path):
    """What an object can do is written down in its class: only a system is asked what it has."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and is_name(node.func) and node.func.id == "hasattr":
            assert ast.unparse(node.args[0]) == "os", f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and is_name(node.func) and node.func.id == "getattr" and len(node.args) == 3:
            raise AssertionError(f"line {node.lineno}: {ast.unparse(node)}")


#: Objects whose attributes are set by the function that has just made them, or that ctypes wants declared so.
MADE_HERE = {
    "tree": "tree.py", "inside": "fields.py", "function": "abi.py", "params": "llama.py", "tokenizer": "vocabulary.py",
    "bpe": "documentation.py", "options": "running.py", "converter": "targets.py", "of_bytes": "soak_http.py",
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_is_patched(path):
    """Code sets attributes of `self` alone: what changes another object is a method of that object's class."""
    for node in ast.walk(ast.parse(path.read_text())):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) else ():
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                root = part
                while isinstance(root, ast.Attribute):
                    root = root.value
                if isinstance(part, ast.Attribute) and not (is_name(root) and root.id in ("self", "cls")):
                    made_here = is_name(root) and MADE_HERE.get(root.id) == path.name
                    assert made_here, f"line {node.lineno}: {ast.unparse(part)} is set from outside"

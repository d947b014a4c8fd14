"""The modules of the standard library, and what is documented in a source."""

import ast

from tfguide.tasks import library

SOURCE = '''
"""The module."""
class A:
    "A class."
    class B:
        async def f(self): "Deep."
    def g(self): ...
def h():
    "  A function. "
'''


def test_what_has_a_docstring_has_its_dotted_name():
    found = [(name, type(node), text) for name, node, text in library.documented(SOURCE)]
    assert found == [
        ("", ast.Module, "The module."), ("A", ast.ClassDef, "A class."), ("A.B.f", ast.AsyncFunctionDef, "Deep."),
        ("h", ast.FunctionDef, "A function."),
    ]  # fmt: skip
    assert list(library.documented("def f(")) == []


def test_modules_and_packages_have_the_names_that_import_knows():
    names = [name for name, _ in library.modules()]
    assert {"json", "json.decoder", "textwrap"} <= set(names) and len(names) == len(set(names))


def test_what_is_left_out_is_not_read():
    names = [name for name, _ in library.modules({"decoder", "tests"}, {"json", "textwrap"})]
    assert "json" in names and "textwrap" in names and "json.decoder" not in names
    assert {name.partition(".")[0] for name in names} == {"json", "textwrap"}

"""Python rules in a site file: locates the function and checks that it exists. Nothing of it is run here."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config.problem import Fault, suggest

_NAME: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Function:
    """A function in a file; `text` is its notation in the site file."""

    text: str
    path: Path
    name: str


def function(text: str, directory: Path) -> Function:
    """Parse module:function, or package.module:function, relative to `directory`. Raises Fault."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise Fault("expected module:function, such as rules.custom:route for the function route in rules/custom.py")
    return Function(text, directory.joinpath(*match[1].split(".")).with_suffix(".py"), match[2])


def check(found: Function, content: bytes) -> None:
    """Check that `content` is Python and defines the function. Raises Fault."""
    try:
        tree = ast.parse(content, str(found.path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise Fault(f"{found.path}:{line}: {getattr(error, 'msg', None) or error}") from None
    functions = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    node = functions.get(found.name)
    if node is None:
        raise Fault(f"{found.path} has no function {found.name}{suggest(found.name, functions)}")
    if isinstance(node, ast.AsyncFunctionDef):
        raise Fault(f"{found.path}:{node.lineno}: {found.name} must not be async: rules are called synchronously")

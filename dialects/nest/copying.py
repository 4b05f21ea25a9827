"""Copies of statements under names of their own."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from ..sym import symbol
from .program import Block, Body, Guard, Loop, Statement, walk
from .rewriting import Substitution, substitute


def fresh_names(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """Returns a new name for each name, `i_1` for `i`, that neither has been taken nor another."""
    images: dict[str, str] = {}
    used = set(taken)
    for name in names:
        number, image = 1, f"{name}_1"
        while image in used:
            number += 1
            image = f"{name}_{number}"
        images[name] = image
        used.add(image)
    return images


def renamed(body: Body, taken: Collection[str]) -> tuple[Body, dict[str, str]]:
    """Returns statements with fresh names for all loops and blocks in them, and these by name."""
    parts = [part for part in walk(body) if isinstance(part, Loop | Block)]
    images = fresh_names((part.name for part in parts), taken)
    loops: Substitution = {
        part.name: symbol(images[part.name]) for part in parts if isinstance(part, Loop)
    }
    return tuple(_renamed(part, images) for part in substitute(body, loops)), images


def _renamed(statement: Statement, images: dict[str, str]) -> Statement:
    match statement:
        case Loop():
            body = tuple(_renamed(part, images) for part in statement.body)
            return replace(statement, name=images[statement.name], body=body)
        case Block():
            init = tuple(_renamed(part, images) for part in statement.init)
            body = tuple(_renamed(part, images) for part in statement.body)
            return replace(statement, name=images[statement.name], init=init, body=body)
        case Guard(condition, inner):
            return Guard(condition, tuple(_renamed(part, images) for part in inner))
        case _:
            return statement

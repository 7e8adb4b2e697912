"""A program for engines: transpositions between convolutions and of the heads of an attention, and linears."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node
from torch.fx.node import map_arg

_ATEN = torch.ops.aten
_SAME_ORDER = frozenset(
    {
        *(_ATEN.reshape.default, _ATEN.view.default, _ATEN.flatten.using_ints, _ATEN.unflatten.int),
        *(_ATEN.squeeze.dim, _ATEN.unsqueeze.default, _ATEN.contiguous.default, _ATEN.clone.default),
    }
)
"""Operators that give the values of their first argument in their order, in another shape or memory."""


def keep_maps(program: ExportedProgram) -> None:
    """Compute on maps (B, C, H, W) from one convolution to the next, in place.

    Parts exchange tokens (B, N, C). Between the convolutions of two parts, sums and activations are therefore computed
    on tokens, with a transposition before and one after. PyTorch transposes by strides alone; engines move the values.

    Args:
        program: of a model in evaluation mode.
    """
    _Rewriting(program.graph_module.graph).run()
    program.graph_module.recompile()


def split_heads_first(program: ExportedProgram) -> None:
    """Split what a joint linear gives into q, k and v before their heads are transposed, in place.

    In PyTorch and OpenVINO one transposition of all three is faster, in ONNX Runtime one for each.

    Args:
        program: of a model in evaluation mode.
    """
    graph = program.graph_module.graph
    for node in graph.nodes:
        moved = _args(node)[0] if node.target is _ATEN.unbind.int else None
        if moved is None or _order(moved) != [2, 0, 3, 1, 4] or _args(moved)[0].target is not _ATEN.unflatten.int:
            continue
        joint, axis, (count, heads, _) = _args(_args(moved)[0])
        parts = _insert(_ATEN.chunk.default, [joint, count, axis], before=node)
        for use in list(node.users):
            part = _insert(operator.getitem, [parts, _args(use)[1]], before=use)
            apart = _insert(_ATEN.unflatten.int, [part, axis, [heads, -1]], before=use)
            use.replace_all_uses_with(_insert(_ATEN.transpose.int, [apart, 1, 2], before=use))
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def multiply_matrices(program: ExportedProgram) -> None:
    """Give linears the tokens of all images as rows of one matrix, in place.

    ONNX has a product with a bias (Gemm) for matrices alone; that of more axes is followed by a sum.

    Args:
        program: of a model in evaluation mode.
    """
    graph = program.graph_module.graph
    for node in graph.nodes:
        if node.target is not _ATEN.linear.default or len(node.args) < 3 or len(_shape(node)) < 3:
            continue
        given, *weights = _args(node)
        rows = _insert(_ATEN.reshape.default, [given, [-1, int(_shape(given)[-1])]], before=node)
        product = _insert(_ATEN.linear.default, [rows, *weights], before=node)
        sizes = [*_sizes(given, before=node)[:-1], int(_shape(node)[-1])]
        node.replace_all_uses_with(_insert(_ATEN.reshape.default, [product, sizes], before=node))
    graph.eliminate_dead_code()
    program.graph_module.recompile()


class _Rewriting:
    """The rewriting of a graph of `torch.export`, whose nodes have example values.

    Args:
        graph: to rewrite in place.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[Node, Node | None] = {}
        self.made: list[tuple[Node, Node]] = []  # a node of tokens, and a new one that computes it as a map

    def run(self) -> None:
        """Rewrite the graph. Values that are read as tokens too are computed as a map and transposed."""
        for node in list(self.graph.nodes):
            if node.op == "call_function" and _shape(node):
                new = _unchanged(node) or self._map_again(node) or self._on_whole_map(node)
                if new is not None:
                    node.replace_all_uses_with(new)
                    self.graph.erase_node(node)
        self.graph.eliminate_dead_code()
        for tokens, as_map in reversed(self.made):
            if tokens.users and as_map.users:
                axes = len(_shape(as_map))
                last = _insert(_ATEN.permute.default, [as_map, [0, *range(2, axes), 1]], before=tokens)
                if (new := self._shaped(last, tokens, before=tokens)) is not None:
                    tokens.replace_all_uses_with(new)
                self.graph.eliminate_dead_code()

    def _map_again(self, node: Node) -> Node | None:
        """For a transposition of tokens to a map: the values as the map that they can be without it."""
        axes = len(_shape(node))
        found = self._map_of(_args(node)[0]) if _order(node) == [0, axes - 1, *range(1, axes - 1)] else None
        return None if found is None else self._shaped(found, node, before=node)

    def _on_whole_map(self, node: Node) -> Node | None:
        """For an operator on each place of a reshaped map: the operator on the map, then reshaped."""
        if not _works_by_place(node):
            return None
        given, root = _args(node)[0], _root(_args(node)[0])
        if root is given or len(_shape(root)) != 4 or _shape(root)[:2] != _shape(given)[:2]:
            return None
        options = _args(node)[1:]
        if node.target is _ATEN.conv2d.default:
            root, steps = _without_steps(root)
            options = [options[0], (options[1:] or [None])[0], steps]
        return self._shaped(_insert(node.target, [root, *options], node.kwargs, before=node), node, before=node)

    def _map_of(self, tokens: Node) -> Node | None:
        """A node (B, C, ...) of the values of tokens (B, ..., C); None if that takes a transposition."""
        if tokens not in self.known:
            self.known[tokens] = self._find(tokens)
        return self.known[tokens]

    def _find(self, tokens: Node) -> Node | None:
        root, axes = _root(tokens), len(_shape(tokens))
        if root is not tokens:
            ends = [(len(_shape(x)) > 2, _shape(x)[:1], _shape(x)[-1:]) for x in (root, tokens)]
            return self._map_of(root) if ends[0] == ends[1] else None
        if axes > 2 and _order(tokens) == [0, *range(2, axes), 1]:
            given, root = _args(tokens)[0], _root(_args(tokens)[0])
            return root if len(_shape(root)) > 2 and _shape(root)[:2] == _shape(given)[:2] else given
        if tokens.target is _ATEN.slice.Tensor:
            return self._sliced(tokens)
        return self._pointwise(tokens) if _is_pointwise(tokens) else None

    def _sliced(self, tokens: Node) -> Node | None:
        """Some rows or columns of a map."""
        given, axis, *rest = _args(tokens)
        found = self._map_of(given)
        if found is None or not 0 < axis < len(_shape(tokens)) - 1 or _shape(found)[2:] != _shape(given)[1:-1]:
            return None
        return self._computed_on(tokens, [found, axis + 1, *rest])

    def _pointwise(self, tokens: Node) -> Node | None:
        """A pointwise operator on maps, each value of a vector for one channel."""
        args = _args(tokens)
        found = {i: self._map_of(a) for i, a in enumerate(args) if isinstance(a, Node) and _shape(a) == _shape(tokens)}
        maps = {i: as_map for i, as_map in found.items() if as_map is not None}
        if not maps or len(maps) < len(found):
            return None
        like = max(maps.values(), key=lambda each: len(_shape(each)) == 4 and _shape(each)[3] != "1")
        for i, a in enumerate(args):
            if i in maps:
                args[i] = self._shaped(maps[i], like, before=tokens)
            elif isinstance(a, Node) and _shape(a):
                vector = [a, [-1, *[1] * (len(_shape(like)) - 2)]]
                args[i] = _insert(_ATEN.reshape.default, vector, before=tokens) if len(_shape(a)) == 1 else None
        return None if None in args else self._computed_on(tokens, args)

    def _computed_on(self, tokens: Node, args: list[Any]) -> Node:
        """The operator of a node of tokens, on other arguments."""
        self.made.append((tokens, _insert(tokens.target, args, tokens.kwargs, before=tokens)))
        return self.made[-1][1]

    def _shaped(self, node: Node, like: Node, *, before: Node) -> Node | None:
        """The values of a node in their order, in the shape of another; None if two of its sizes are unknown."""
        old, new = _shape(node), _shape(like)
        if old == new:
            return node
        if len(new) == 4 and new[3] == "1" and old[:2] == new[:2]:
            flat = _insert(_ATEN.flatten.using_ints, [node, 2, len(old) - 1], before=before)
            return _insert(_ATEN.unsqueeze.default, [flat, 3], before=before)
        if len(new) == 3 and old[0] == new[0] and (old[1] == new[1] or old[-1] == new[-1]):
            axes = (2, len(old) - 1) if old[1] == new[1] else (1, len(old) - 2)
            return _insert(_ATEN.flatten.using_ints, [node, *axes], before=before)
        sizes = [int(size) if size.isdigit() else -1 for size in new]
        return None if sizes.count(-1) > 1 else _insert(_ATEN.reshape.default, [node, sizes], before=before)


def _insert(target: Any, args: list[Any], kwargs: Mapping[str, Any] | None = None, *, before: Node) -> Node:
    """A new node of the same graph, with its example value."""
    with before.graph.inserting_before(before):
        node = before.graph.call_function(target, tuple(args), dict(kwargs or {}))
    values = map_arg(args, lambda each: each.meta["val"])
    node.meta = {**before.meta, "val": target(*values, **(kwargs or {}))}
    return node


def _shape(node: Node) -> tuple[str, ...]:
    """The sizes of a tensor as text, so that comparing two symbols does not fix them; () for other values."""
    value = node.meta.get("val")
    return tuple(map(str, value.shape)) if isinstance(value, Tensor) else ()


def _sizes(node: Node, *, before: Node) -> list[Any]:
    """The sizes of a tensor for a reshape: numbers, -1 for the first that is unknown, nodes for others."""
    unknown = [axis for axis, size in enumerate(_shape(node)) if not size.isdigit()]
    sizes: list[Any] = [int(size) if size.isdigit() else -1 for size in _shape(node)]
    for axis in unknown[1:]:
        sizes[axis] = _insert(_ATEN.sym_size.int, [node, axis], before=before)
    return sizes


def _args(node: Node) -> list[Any]:
    return list(node.args)


def _root(node: Node) -> Node:
    """The node whose values a node gives in the same order."""
    while node.target in _SAME_ORDER:
        node = _args(node)[0]
    return node


def _without_steps(node: Node) -> tuple[Node, list[int]]:
    """A map and two steps, for a map that has every so many of its rows and columns."""
    steps = [1, 1]
    while node.target is _ATEN.slice.Tensor:
        given, axis, start, end, *step = _args(node)
        if axis not in (2, 3) or start != 0 or end != sys.maxsize:
            break
        node, steps[axis - 2] = given, steps[axis - 2] * (step or [1])[0]
    return node, steps


def _unchanged(node: Node) -> Node | None:
    """For an operator that gives its first argument: the argument."""
    given, *options = _args(node) or [None]
    if node.target is _ATEN.slice.Tensor:
        return given if _shape(node) == _shape(given) and len(options) < 4 else None  # without a step
    return given if node.target is _ATEN.dropout.default and options[1] is False else None


def _order(node: Node) -> list[int] | None:
    """The axes of the input in the order of a transposition; None for other operators."""
    order = list(range(len(_shape(node))))
    if node.target is _ATEN.permute.default:
        return [order[axis] for axis in _args(node)[1]]
    if node.target is not _ATEN.transpose.int:
        return None
    i, j = (order[axis] for axis in _args(node)[1:3])
    order[i], order[j] = j, i
    return order


def _is_pointwise(node: Node) -> bool:
    return torch.Tag.pointwise in getattr(node.target, "tags", ())


def _works_by_place(node: Node) -> bool:
    """Whether a node computes each place of a map (B, C, H, W) from the channels of that place alone."""
    given, *others = _args(node) or [None]
    if not isinstance(given, Node) or len(_shape(given)) != 4:
        return False
    if node.target is _ATEN.conv2d.default:
        return _shape(others[0])[2:] == ("1", "1") and len(others) < 3
    return node.target is _ATEN.batch_norm.default or (_is_pointwise(node) and not others)

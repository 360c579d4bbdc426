"""A graph in parts that run one after the other, cut where its FC layers read, and what was between them is kept.

Choices of a model are judged by the hundred, and many share their first layers; a correction asks for what each layer
reads while the layers before it stand. Both then begin at the last part that is known already.

Owns the cut and the kept values. What flows between parts is the graph's business, not FC layers'.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lrf_dse.models.evaluate import run_slice
from lrf_dse.models.memo import Memo

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Values = Mapping[str, NDArray[Any]]
State = Mapping[str, NDArray[Any]]
"""Values between two parts, by name."""

STATE_BYTES = 128 << 20
"""States are kept up to this size, those of scores and those of corrections each."""

SessionOf = Callable[["onnx.ModelProto"], "onnxruntime.InferenceSession"]


@dataclass(frozen=True, eq=False)
class ModelPart:
    """One part: its session, what it reads (given values and those of parts before) and gives, and the state after it.

    `live` are the values of this part and those before that later ones read, `bytes` what they take.
    """

    session: onnxruntime.InferenceSession
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    live: frozenset[str]
    bytes: int


@dataclass(frozen=True, eq=False)
class Segments:
    """A graph in parts; `ends` says after how many of them each cut is known."""

    parts: tuple[ModelPart, ...]
    ends: Mapping[str, int]

    @property
    def state_bytes(self) -> int:
        """What the states after all parts take."""
        return sum(part.bytes for part in self.parts)

    def marks(self, given: Mapping[str, bytes]) -> list[bytes]:
        """For each part a mark of all that it and the parts before it were given, from marks of these values by name.

        A value without a mark (a sample) does not count.
        """
        found, mark = [], b""
        for part in self.parts:
            mine = [given[name] for name in part.reads if name in given]
            # A chain: each mark holds the one before, so that equal marks mean equal choices in all parts up to here.
            mark = blake2b(b"".join([mark, *mine]), digest_size=16).digest() if mine else mark
            found.append(mark)
        return found

    def run(self, given: Values, names: Sequence[str], states: RunStates, start: int) -> list[NDArray[Any]]:
        """The values `names` of one run, from the last of its `states` that is known.

        Errors are those of `run_slice`, which names sample `start`.
        """
        # A value that is no cut is an output of the model: all parts must have run.
        end = max((self.ends.get(name, len(self.parts)) for name in names), default=0)
        first, state = states.last(end)
        for number in range(first, end):
            part = self.parts[number]
            feed = {name: state[name] if name in state else given[name] for name in part.reads}
            after = {**state, **dict(zip(part.gives, run_slice(part.session, feed, start, part.gives), strict=True))}
            state = {name: value for name, value in after.items() if name in part.live or name in names}
            states.keep(number + 1, state)
        return [state[name] for name in names]


@dataclass(frozen=True, eq=False)
class States:
    """The states of one model's runs, with what its parts were given: `marks` up to each part.

    Kept in `memo` are those after every `step`-th part up to `most`.
    """

    memo: Memo[tuple[int, int, int, bytes], State]
    inputs: int
    marks: Sequence[bytes]
    step: int = 1
    most: int = sys.maxsize

    def at(self, first: int) -> RunStates:
        """The states of the run that begins with inference `first`."""
        return RunStates(self, first)


@dataclass(frozen=True)
class RunStates:
    """The states of one run."""

    states: States
    first: int

    def last(self, parts: int) -> tuple[int, State]:
        """The last known state after at most so many parts, and after how many."""
        # From the end: the later the known state, the fewer parts are left to run.
        for number in range(parts, 0, -1):
            known = self.states.memo.find(self._key(number))
            if known is not None:
                return number, known
        return 0, {}

    def keep(self, parts: int, state: State) -> None:
        """Keep the state after so many parts, if it is one of those that are kept."""
        if parts <= self.states.most and parts % self.states.step == 0:
            self.states.memo.get(self._key(parts), lambda: state)

    def _key(self, parts: int) -> tuple[int, int, int, bytes]:
        return self.states.inputs, self.first, parts, self.states.marks[parts - 1]


class KnownStates:
    """What is known between the parts of a graph, in bounded memory.

    For scores, the states of unchanged layers are kept, which many choices share. For corrections, which go from layer
    to layer, all states are kept. Each kind has a memory of its own: a correction needs a state for a short time only,
    and must not push out those of scores.
    """

    def __init__(self, most_bytes: int = STATE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._scores, self._corrections = (Memo[Any, State](most_bytes, _state_bytes) for _ in range(2))
        self._inputs: list[tuple[NDArray[Any], ...]] = []

    def of(
        self,
        segments: Segments,
        marks: Mapping[str, bytes],
        inputs: tuple[NDArray[Any], ...],
        *,
        runs: int,
        in_turn: bool,
    ) -> States | None:
        """The states of so many `runs` of `inputs`; `marks` tell the fed weights apart by name (b"": the model's own).

        `in_turn`: the caller asks for what the layers read, one layer after the other. None where the states of that
        take more memory than may be used.
        """
        # Where not every state fits into memory, only each `share`-th is kept, so that no state pushes another out.
        share = max(1, -(-runs * segments.state_bytes // self._most_bytes))
        known, dense = segments.marks(marks), segments.marks(dict.fromkeys(marks, b""))
        if in_turn:
            # A correction goes on from the part before, which a step would have left out: all states, or none.
            return States(self._corrections, self._number_of(inputs), known) if share <= 1 else None
        same = next((k for k, (a, b) in enumerate(zip(known, dense, strict=True)) if a != b), len(dense))
        return States(self._scores, self._number_of(inputs), known, step=share, most=same)

    def _number_of(self, inputs: tuple[NDArray[Any], ...]) -> int:
        """A number for these array objects, the same one whenever the same objects come again."""
        # Identity is safe because this list keeps the arrays alive; comparing contents would read all samples at each
        # call.
        for number, known in enumerate(self._inputs):
            if len(known) == len(inputs) and all(a is b for a, b in zip(inputs, known, strict=True)):
                return number
        self._inputs.append(inputs)
        return len(self._inputs) - 1


def _state_bytes(state: State) -> int:
    return sum(value.nbytes for value in state.values())


def segments_of(proto: onnx.ModelProto, cuts: Sequence[str], session_of: SessionOf) -> Segments | None:
    """`proto` in parts that end where the next of `cuts`, in the order in which they are computed, is known.

    None where it cannot be cut: a body of a node reads values by name, or a value's type or sizes are not known.
    """
    nodes = list(proto.graph.node)
    # The body of an If, Loop or Scan reads values of the graph around it, and no input of the node names them.
    if any(attribute.HasField("g") or attribute.graphs for node in nodes for attribute in node.attribute):
        return None
    part_of = _parted(nodes, cuts)
    made = {name: part_of[i] for i, node in enumerate(nodes) for name in node.output if name}
    count = max(part_of) + 1
    # By value the last part that reads it. An output of the model is read after all parts; a cut after its own, since
    # callers ask for it.
    used = {output.name: count for output in proto.graph.output} | {name: made[name] + 1 for name in cuts}
    for i, node in enumerate(nodes):
        for name in node.input:
            used[name] = max(used.get(name, 0), part_of[i])
    crossing = [name for name in made if used.get(name, 0) > made[name]]
    known = _value_infos(proto)
    if not set(crossing) <= known.keys():
        return None
    constants, parts = {tensor.name for tensor in proto.graph.initializer}, []
    for number in range(count):
        mine = [node for i, node in enumerate(nodes) if part_of[i] == number]
        inside = {name for node in mine for name in node.output}
        reads = tuple(dict.fromkeys(n for node in mine for n in node.input if n and n not in inside | constants))
        gives = tuple(name for name in crossing if name in inside)
        live = frozenset(name for name in crossing if made[name] <= number < used[name])
        session = session_of(_part(proto, mine, [known[name] for name in reads], [known[name] for name in gives]))
        parts.append(ModelPart(session, reads, gives, live, sum(_bytes_of(known[name]) for name in live)))
    return Segments(tuple(parts), {name: made[name] + 1 for name in cuts})


def _parted(nodes: Sequence[onnx.NodeProto], cuts: Sequence[str]) -> list[int]:
    """The number of every node's part: which of `cuts` is the first that needs it. No part is empty."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.output}
    found: dict[int, int] = {}
    parts = 0
    # A node belongs to the first cut that needs it; what no cut needs is the last part.
    for name in cuts:
        waiting, before = [name], len(found)
        while waiting:
            i = maker.get(waiting.pop())
            if i is not None and i not in found:
                found[i] = parts
                waiting.extend(nodes[i].input)
        parts += len(found) > before
    return [found.get(i, parts) for i in range(len(nodes))]


def _value_infos(proto: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """The values whose type and sizes are known."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(proto).graph
    every = [*graph.value_info, *graph.input, *graph.output]
    return {value.name: value for value in every if _is_known(value)}


def _is_known(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return bool(
        tensor.elem_type and tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)
    )


def _bytes_of(value: onnx.ValueInfoProto) -> int:
    from onnx import helper

    tensor = value.type.tensor_type
    return int(helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize * prod(d.dim_value for d in tensor.shape.dim))


def _part(
    proto: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    reads: Sequence[onnx.ValueInfoProto],
    gives: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """The model of these nodes alone."""
    from onnx import helper

    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    graph = helper.make_graph(nodes, "part", reads, gives, initializer=constants)
    return helper.make_model(
        graph, opset_imports=proto.opset_import, functions=proto.functions, ir_version=proto.ir_version
    )

"""Which combinations to judge as wholes, learnt from those that were: predict, judge, correct, until nothing is gained.

Every round judges what is predicted to add most to the space that the judged models dominate. Where that ends, gaps of
their front are filled, and then ranks are asked for between those of neighbouring plans. What is judged next does not
depend on the number of evaluations, so that more of them only add models, and never give a worse front.
Pure: to judge a model and to make options of a layer are the caller's functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from lrf_dse.front.pareto import FloatArray, front_mask
from lrf_dse.plan.choice import Objective
from lrf_dse.plan.kept import Kept
from lrf_dse.plan.options import (
    FLASH,
    LATENCY,
    LOSS,
    NO_LIMITS,
    Combination,
    LayerOption,
    Limits,
    dense_combination,
    totals_of,
)
from lrf_dse.plan.predict import Correction, Prediction, fitted, rate_at
from lrf_dse.plan.refine import Between, ranks_between
from lrf_dse.plan.select import near_to, pool_of
from lrf_dse.plan.single import Answer, best_within
from lrf_dse.plan.terrain import SAME_RATIO, WORST, Gap, Terrain, ends_of, gaps, same
from lrf_dse.plan.volume import greedy, hypervolume

SLACK = 1.5
"""A prediction may exceed the largest loss by this factor and is still worth measuring."""

WORTHS = (1e-2, 1e-3)
"""What must be predicted to be gained, of all that is dominated, for one more evaluation: much first, then little."""

WIDER = 2.0
"""Where no limit of the loss is set and nothing within the other limits loses less than the worst that counts, losses
up to this factor of the least one count."""

FUTILE = 2
"""After so many rounds of one hope that gained less than that, a larger one is tried; after the largest, none."""

ASKED = 2
"""Ranks between options that may be asked for, for each finalist."""

HOPES = (0.0, 1.0, 2.0)
"""By how many deviations models near the front are hoped to lose less than predicted, once nothing else is left."""

LossOf = Callable[[Combination], float]
Refine = Callable[[Sequence[Between]], Sequence[LayerOption]]


@dataclass(frozen=True)
class Search:
    """The finalists, every model that was judged, and whether nothing more would be gained by the prediction.

    `combinations` is how many whole models the options make. `rounds` counts how often models were picked to be judged.
    `answer` is the best within the limits by the last prediction, where an objective was given. `gaps` are those of the
    judged front, `asked` the ranks that were asked for.
    """

    finalists: tuple[Combination, ...]
    predictions: tuple[Prediction, ...]
    rounds: int
    stable: bool
    combinations: int = 1
    answer: Answer | None = None
    gaps: tuple[Gap, ...] = ()
    asked: tuple[Between, ...] = ()


def search(
    layers: Sequence[Sequence[LayerOption]],
    count: int,
    *,
    measure: LossOf,
    evaluations: int,
    max_loss: float | None = None,
    worst: float = WORST,
    within: Limits = NO_LIMITS,
    objective: Objective | None = None,
    refine: Refine | None = None,
) -> Search:
    """About `count` finalists, the dense one first and then by latency, by at most `evaluations` judged models.

    Plans above `max_loss`, or not `within` the limits, are finalists only where no other is. Losses above `worst` count
    for nothing. `refine` gives options with ranks between two of a layer's, as many as it can; it is asked for at most
    ASKED times `count`. Where the evaluations end before `count` models are judged, finalists stand with predictions.
    """
    state = _State(layers, count, max_loss=max_loss, worst=worst, within=within, objective=objective)
    stable = True
    for member in state.next_members(refine):
        if len(state.found) >= evaluations:
            stable = False
            break
        state.judge(member, measure(member))
    return state.result(stable=stable)


def finalists(
    layers: Sequence[Sequence[LayerOption]],
    count: int,
    *,
    worst: float = WORST,
    within: Limits = NO_LIMITS,
    objective: Objective | None = None,
) -> Search:
    """About `count` finalists by the first prediction alone: what a search would judge first."""
    state = _State(layers, count, max_loss=None, worst=worst, within=within, objective=objective)
    next(state.next_members(None), None)
    return state.result(stable=True)


class _State:
    """What is known while a search goes on."""

    def __init__(
        self,
        layers: Sequence[Sequence[LayerOption]],
        count: int,
        *,
        max_loss: float | None,
        worst: float,
        within: Limits,
        objective: Objective | None,
    ) -> None:
        self.layers = [list(options) for options in layers]
        self.count, self.within, self.max_loss, self.objective = count, within, max_loss, objective
        self.worst = worst if max_loss is None or max_loss <= 0 else max_loss
        self.found: dict[tuple[int, ...], Prediction] = {}
        self.rounds = self._futile = 0
        self._hoping, self._hopes = False, list(HOPES)
        self.pending: list[Combination] = []
        self.asked: list[Between] = []
        self.correction = Correction()
        self._judged: list[Combination] = []
        self._answers: dict[tuple[int, float | None], Answer] = {}
        self._grow([])
        dense = dense_combination(self.layers)
        widest = totals_of(dense)
        if within.flash_bytes is not None or within.ram_bytes is not None or objective in ("bytes", "ram"):
            # Where size is wanted, what is slower than dense is of use.
            widest = np.max([totals_of(member) for member in self.pool], axis=0)
        # A hair beyond, so that a loss of just the limit still counts.
        self.terrain = Terrain(float(widest[LATENCY]), float(widest[FLASH]), self.worst * 1.001)
        self.kept = Kept(self.terrain, count)
        self._keep(dense, dense.loss)

    def _grow(self, options: Sequence[LayerOption]) -> None:
        """More options of layers, and the pool of what they make."""
        for option in options:
            (at,) = [k for k, known in enumerate(self.layers) if known[0].candidate.layer == option.candidate.layer]
            self.layers[at].append(option)
        self.pool = list(pool_of(self.layers, within=self.within))

    def next_members(self, refine: Refine | None) -> Iterator[Combination]:
        """What to judge, one after the other, while what comes of it is told by `judge`."""
        while True:
            self.correction = fitted(list(self.found.values()))
            self._widen()
            picks, grown = self._next(refine)
            if grown:
                continue
            if not picks:
                return
            before = self.dominated
            self.rounds += 1
            self.pending = list(picks)
            if self.rounds == 1:  # all that stand for a front when nothing is judged stay in place of what is judged
                self.kept.count = max(self.kept.count, 1 + len(picks))
            while self.pending:
                yield self.pending[0]
                self.pending.pop(0)
            self.kept.renew()
            if not self._hoping or self.dominated > (1 + WORTHS[-1]) * before:
                self._futile = 0
            else:
                self._futile += 1

    def _next(self, refine: Refine | None) -> tuple[list[Combination], bool]:
        """What the next round judges, or whether there are new options instead; neither where nothing is promised.

        What promises much comes first, be it a model or ranks to ask for.
        """
        self._hoping = False
        for worth in WORTHS:
            if picks := self._picks(self.pool, worth) or self._in_gaps():
                return picks, False
            if refine is not None and (wanted := self._between(worth)):
                self.asked += wanted
                self._grow(refine(wanted))
                return [], True
        self._hoping = True
        while self._hopes:
            if self._futile < FUTILE and (picks := self._picks(self._near_front(), WORTHS[-1], hope=self._hopes[0])):
                return picks, False
            self._hopes.pop(0)
            self._futile = 0
        return [], False

    @property
    def dominated(self) -> float:
        """What the judged models dominate."""
        numbers, _, usable = self._known(self._judged)
        return hypervolume(self.terrain.points(numbers, usable), self.terrain.reference)

    def judge(self, member: Combination, loss: float) -> None:
        """What came of `member`."""
        self.found[member.key] = Prediction(member, member.loss, self.correction.loss(member), loss)
        self._keep(member, loss)

    def _keep(self, member: Combination, loss: float) -> None:
        numbers = totals_of(member)
        numbers[LOSS] = loss
        self._judged.append(member)
        self.kept.add(numbers, usable=self._admits(member, loss, self.max_loss))

    def _widen(self) -> None:
        """Let larger losses count where tight limits leave nothing with a loss that counts.

        Otherwise all that keeps the limits would be worth nothing, and the search would end with the first it judged.
        """
        members = [m for m in (*self._judged, *self.pool, *self._single()) if self.within.admits(m)]
        least = float(np.min(self._known(members)[0][:, LOSS], initial=np.inf))
        if self.max_loss is not None or not members or SLACK * least <= self.terrain.worst:
            return
        self.terrain = replace(self.terrain, worst=WIDER * least)
        self.kept = self.kept.on(self.terrain, self._known(self._judged)[2])

    def _admits(self, member: Combination, loss: float, max_loss: float | None) -> bool:
        return loss <= (self.terrain.worst if max_loss is None else max_loss) and self.within.admits(member)

    def _known(self, members: Sequence[Combination], *, hope: float = 0.0) -> tuple[FloatArray, list[bool], list[bool]]:
        """Numbers with the best known loss [n, 4], which were judged, and which may keep all limits."""
        numbers = np.array([totals_of(member) for member in members]).reshape(-1, 4)
        judged, usable = [], []
        for row, member in zip(numbers, members, strict=True):
            known = self.found.get(member.key)
            row[LOSS] = self.correction.loss(member, hope=hope) if known is None else known.measured
            judged.append(known is not None or member.is_dense)
            most = None if self.max_loss is None else self.max_loss * (1.0 if judged[-1] else SLACK)
            usable.append(self._admits(member, row[LOSS], most))
        return numbers, judged, usable

    def _picks(self, pool: Sequence[Combination], worth: float, *, hope: float = 0.0) -> list[Combination]:
        """The ends, by what is known, and what adds most to the judged front; without those that were judged."""
        pool = [*self._judged, *(member for member in pool if member.key not in self.found), *self._single()]
        numbers, judged, usable = self._known(pool, hope=hope)
        ends = ends_of(numbers, usable, dense=[member.is_dense for member in pool])
        points = self.terrain.points(numbers, usable)
        front = [i for i, known in enumerate(judged) if known]
        first = not self.found
        most = self.count - 1 if first else max(2, self.count // 4)
        whole = hypervolume(points[front], self.terrain.reference)
        new = [i for i in ends if not judged[i]]
        for i in front:  # what counts as one with a judged model tells nothing new
            points[same(points, points[i]) & ~np.array(judged, np.bool_)] = self.terrain.reference
        least = worth * max(whole, hypervolume(points, self.terrain.reference) if first else whole)
        taken = greedy(
            points, len(front) + max(most, len(new)), self.terrain.reference, seeds=[*front, *new], least=least
        )
        return [pool[i] for i in taken[len(front) :]]

    def _near_front(self) -> list[Combination]:
        """The pool, and what is near the judged front: that may have shown the first prediction to be wrong."""
        numbers, _, usable = self._known(self._judged)
        on_front = front_mask(self.terrain.points(numbers, usable)) & np.array(usable, np.bool_)
        near = near_to([self._judged[i] for i in np.flatnonzero(on_front)], self.layers)
        return list({member.key: member for member in [*self.pool, *near]}.values())

    def _single(self) -> list[Combination]:
        """The best within the limits by the prediction: on models of many layers the pool may lack it."""
        answer = self.answer()
        return [] if answer is None or answer.combination is None else [answer.combination]

    def answer(self) -> Answer | None:
        """The best within the limits by the prediction, losses taken as a multiple of their sum."""
        if self.objective is None:
            return None
        most = None if self.max_loss is None else self.max_loss / self._rate()
        key = sum(map(len, self.layers)), most
        if key not in self._answers:
            self._answers[key] = best_within(self.layers, self.objective, within=self.within, max_loss=most)
        return self._answers[key]

    def _rate(self) -> float:
        """What whole models near the largest loss lose for each point that their layers add up to."""
        if self.max_loss is None:
            return 1.0
        numbers, _, _ = self._known(self.pool)
        return rate_at(self.max_loss, numbers[:, LOSS], [member.loss for member in self.pool], self.count)

    def _in_gaps(self) -> list[Combination]:
        """The model with the least loss that options make, for each gap of the judged front where none was tried."""
        found = []
        for gap in self.gaps():
            if gap.tried == 0 and (member := self._least_loss_in(gap)) is not None:
                found.append(member)
        return found

    def _least_loss_in(self, gap: Gap) -> Combination | None:
        limits = Limits(gap.high / SAME_RATIO, self.within.flash_bytes, self.within.ram_bytes)
        low = gap.low * SAME_RATIO
        inside = [m for m in self.pool if low < m.latency < limits.bounds[LATENCY] and m.key not in self.found]
        if inside:
            return min(inside, key=lambda member: (self.correction.loss(member), member.flash_bytes))
        member = best_within(self.layers, "accuracy", within=limits, min_latency=low).combination
        return None if member is None or member.key in self.found else member

    def gaps(self) -> list[Gap]:
        """The gaps of the front of judged models."""
        numbers, _, usable = self._known(self._judged)
        return gaps(self.terrain.points(numbers, usable), self.terrain.worst)

    def _between(self, worth: float) -> list[Between]:
        numbers, _, usable = self._known(self._judged)
        judged = [member for member, ok in zip(self._judged, usable, strict=True) if ok]
        found = ranks_between(
            self.layers, judged, numbers[usable], self.terrain, correction=self.correction, least=worth
        )
        known = {between.key for between in self.asked}
        most = min(max(2, self.count // 4), ASKED * self.count - len(self.asked))  # each is built and fitted
        return [between for between in found if between.key not in known][: max(0, most)]

    def result(self, *, stable: bool) -> Search:
        """What was found so far; what was to be judged next stands beside it where little was judged."""
        members = [self._judged[i] for i in self.kept.members]
        if self.rounds <= 1:
            members += self.pending
        dense, *others = members
        others.sort(key=lambda member: (member.latency, member.flash_bytes))
        return Search(
            (dense, *others),
            tuple(self.found.values()),
            self.rounds,
            stable,
            combinations=prod(map(len, self.layers)),
            answer=self.answer(),
            gaps=tuple(self.gaps()),
            asked=tuple(self.asked),
        )

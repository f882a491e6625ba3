"""What follows from a theory: forward chaining in an open world, where a negation must be stated or derived too.

Sentences are named by their positions in the theory, sets of them by the bits of an integer.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import NamedTuple

from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, Theory, entities_of

Label = OneOf["true", "false", "unknown"]


class Proof(NamedTuple):
    """A shortest proof: 0 is the depth of what is stated, and a rule adds 1 to the deepest of its premises."""

    depth: int
    sentences: int
    """The facts and rules that it uses, as bits."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a theory says of a hypothesis.

    ``relevant``, as bits: the sentences of a shortest proof of the hypothesis (true) or of its negation (false). For
    unknown the failed search: from the hypothesis and from its negation back, every rule that concludes what is looked
    for, and its premises in turn; one that can be proved adds its shortest proof, one that cannot is looked for itself.
    ``depth`` is the proof's depth, or the number of rules in a row that the search went through.
    """

    label: Label
    depth: int
    relevant: int

    @property
    def places(self) -> tuple[int, ...]:
        """``relevant`` as positions in the theory."""
        return positions(self.relevant)


def positions(sentences: int) -> tuple[int, ...]:
    """The bits that are set, in rising order."""
    return tuple(place for place in range(sentences.bit_length()) if sentences >> place & 1)


class Prover:
    """Everything that follows from one theory, found once, for any number of hypotheses."""

    def __init__(self, theory: Theory):
        self.theory = theory
        self.entities = entities_of(theory)
        self.known = self._chain((1 << len(theory)) - 1)
        """All that can be proved."""
        self._rules: dict[tuple[str, str, bool], list[tuple[int, Rule]]] = defaultdict(list)
        for place, sentence in enumerate(theory):
            if isinstance(sentence, Rule):
                end = sentence.conclusion
                self._rules[end.predicate, end.object, end.positive].append((place, sentence))
        self._shortest: dict[Literal, Proof] = {}

    @property
    def is_consistent(self) -> bool:
        """Whether nothing can be proved together with its negation."""
        return not any(literal.negation in self.known for literal in self.known if literal.positive)

    def judge(self, hypothesis: Literal) -> Verdict:
        """Of a contradictory theory, what has the shorter proof counts, and the hypothesis itself if they are equal."""
        negation = hypothesis.negation
        proofs = [(self.known[end].depth, end) for end in (hypothesis, negation) if end in self.known]
        if not proofs:
            return self._failed_search(hypothesis)
        depth, end = min(proofs, key=lambda proof: proof[0])
        return Verdict("true" if end == hypothesis else "false", depth, self.proof(end).sentences)

    def proof(self, literal: Literal) -> Proof:
        """A shortest proof that needs each of its sentences: without it there is none, or a deeper one only."""
        if literal not in self._shortest:
            depth, sentences = self.known[literal]
            for place in positions(sentences):
                if sentences >> place & 1 and (found := self._chain(sentences & ~(1 << place), depth).get(literal)):
                    sentences = found.sentences
            self._shortest[literal] = Proof(depth, sentences)
        return self._shortest[literal]

    def search(self, hypothesis: Literal, relevant: int) -> tuple[int, ...]:
        """The ``relevant`` sentences of the verdict in the order of backward chaining, depth first: a rule that
        concludes what is looked for, then for each of its premises what that follows from.

        K tells its sentences in an order by chance, which no model can know that has read them one by one. Here each
        sentence is one step from those before it, and no proof need be found before its first sentence is said.
        """
        known = self._chain(relevant)
        order: dict[int, None] = {}
        seen: set[Literal] = set()

        def establish(goal: Literal) -> None:
            seen.add(goal)
            order.update((place, None) for place in positions(relevant) if self.theory[place] == goal)
            rules = [(place, premises) for place, premises in self._concluding(goal) if relevant >> place & 1]
            if goal in known:  # the first rule that concludes it so soon, or none for what is stated
                depth = known[goal].depth
                rules = [rule for rule in rules if all(p in known and known[p].depth < depth for p in rule[1])][:1]
            for place, premises in rules:
                order[place] = None
                for premise in premises:
                    if premise not in seen:
                        establish(premise)

        for goal in (hypothesis, hypothesis.negation):
            establish(goal)
        return tuple(dict.fromkeys([*order, *positions(relevant)]))

    def _chain(self, sentences: int, rounds: int = -1) -> dict[Literal, Proof]:
        """All that follows from these sentences, breadth first, within so many rounds if they are not negative.

        Round k finds what has depth k; of several proofs of one round the one with the fewest sentences is kept.
        """
        known: dict[Literal, Proof] = {}
        waiting: list[tuple[int, tuple[Literal, ...], Literal]] = []
        for place in positions(sentences):
            sentence = self.theory[place]
            if isinstance(sentence, Rule):
                waiting += ((1 << place, *case) for case in self._cases(sentence))
            else:
                known.setdefault(sentence, Proof(0, 1 << place))
        depth = 0
        while depth != rounds:
            depth += 1
            new: dict[Literal, Proof] = {}
            still = []
            for case in waiting:
                bit, premises, conclusion = case
                if conclusion in known:
                    continue
                used = bit
                for premise in premises:
                    proof = known.get(premise)
                    if proof is None:
                        still.append(case)
                        break
                    used |= proof.sentences
                else:
                    before = new.get(conclusion)
                    if before is None or used.bit_count() < before.sentences.bit_count():
                        new[conclusion] = Proof(depth, used)
            if not new:
                break
            known |= new
            waiting = still
        return known

    def _cases(self, rule: Rule) -> Iterator[tuple[tuple[Literal, ...], Literal]]:
        """The rule for each entity that it can be about."""
        if not rule.is_general:
            yield rule
            return
        for entity in self.entities:
            yield tuple(premise.about(entity) for premise in rule.premises), rule.conclusion.about(entity)

    def _failed_search(self, hypothesis: Literal) -> Verdict:
        touched, deepest = 0, 0
        seen = {hypothesis, hypothesis.negation}
        level, goals = 0, list(seen)
        while goals:
            level, wanted = level + 1, []
            for goal in goals:
                for place, premises in self._concluding(goal):
                    touched |= 1 << place
                    deepest = max(deepest, level)
                    for premise in premises:
                        if premise in seen:
                            continue
                        seen.add(premise)
                        if premise in self.known:
                            proof = self.proof(premise)
                            touched |= proof.sentences
                            deepest = max(deepest, level + proof.depth)
                        else:
                            wanted.append(premise)
            goals = wanted
        return Verdict("unknown", deepest, touched)

    def _concluding(self, goal: Literal) -> Iterator[tuple[int, tuple[Literal, ...]]]:
        """The rules that could conclude this, with their premises for each case in which they would."""
        for place, rule in self._rules.get((goal.predicate, goal.object, goal.positive), ()):
            if rule.conclusion.subject == VARIABLE:
                yield place, tuple(premise.about(goal.subject) for premise in rule.premises)
            elif rule.conclusion.subject == goal.subject:
                for premises, _ in self._cases(rule):
                    yield place, premises

"""Claims about results, checked."""

from dataclasses import dataclass
from statistics import fmean

from reckoning_betty.reproduction.experiment import Claim
from reckoning_betty.reproduction.results import Results


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim holds, and the number that decides, in points of 100; None for both where a run is missing."""

    claim: Claim
    holds: bool | None
    found: float | None
    where: str = ""
    """The setting that decides, where one does."""

    @property
    def told(self) -> str:
        """The number and the setting; empty where a run is missing.

        One decimal, but three where it misses what was asked by less than a tenth.
        """
        if self.found is None:
            return ""
        hidden = not self.holds and abs(self.found - self.claim.points) < 0.1
        return f"{self.found:.{3 if hidden else 1}f}" + (f" ({self.where})" if self.where else "")


def check(claim: Claim, results: Results) -> Verdict:
    """The verdict on means over seeds."""
    settings = claim.settings or results.settings
    arms = [claim.arm, claim.against] if claim.against else [claim.arm]
    seeds = len(results.content["seeds"])
    if any(len(results.rows(setting, arm)) < seeds for setting in settings for arm in arms):
        return Verdict(claim, None, None)
    reached = {s: results.mean(s, claim.arm, claim.measure, claim.hops) for s in settings}
    if claim.kind == "drop":
        found = reached[settings[0]] - reached[settings[-1]]
        return Verdict(claim, found <= claim.points, found)
    if claim.kind == "at_least":
        where = min(reached, key=reached.__getitem__)
        return Verdict(claim, reached[where] >= claim.points, reached[where], where)
    if claim.kind == "at_most":
        where = max(reached, key=reached.__getitem__)
        return Verdict(claim, reached[where] <= claim.points, reached[where], where)
    ahead = {s: reached[s] - results.mean(s, claim.against, claim.measure, claim.hops) for s in settings}
    if claim.kind == "margin":
        found = fmean(ahead.values())
        return Verdict(claim, found >= claim.points, found)
    where = min(ahead, key=ahead.__getitem__)
    return Verdict(claim, ahead[where] >= claim.points, ahead[where], where)

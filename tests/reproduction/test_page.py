"""The page that reads all results."""

from made_up import made_up_results

from reckoning_betty.reproduction.experiment import Claim, Experiment
from reckoning_betty.reproduction.page import overview


def row(title, rows=None, **options):
    content = made_up_results().content
    claims = [Claim(says=f"at least {points}", kind="at_least", arm="ours", points=points) for points in (40, 70)]
    made = Experiment(name="made_up", title=title, source="S.", sizes={}, figure="hops", claims=claims, **options)
    return overview(made, content | ({} if rows is None else {"rows": rows}))


def test_what_holds_is_counted_and_what_does_not_is_told():
    assert row("Made up") == ["[Made up](#made-up)", "1", "1", "0", "at least 70: 48.7 (long)", ""]
    assert row("Made up", [])[1:] == ["0", "0", "2", "", ""]


def test_what_is_above_the_papers_numbers_is_counted():
    paper = {"ours": {"short": {2: 80.0, 10: 99.0}, "long": 40.25}, "theirs": {"short": 1.0}}
    assert row("Made up", paper=paper)[-1] == "2 of 3, by up to 20.0 points (short, 2 hops)"
    assert row("Made up", paper={"ours": {"long": 90.0}})[-1] == "0 of 1"
    assert row("Made up", [], paper=paper)[-1] == ""
    rows = made_up_results().content["rows"]
    unfinished = [told for told in rows if (told["setting"], told["seed"]) != ("short", 1)]
    assert row("Made up", unfinished, paper=paper)[-1] == "1 of 1, by up to 8.5 points (long)"


def test_links_lead_to_headings_as_github_names_them():
    assert row("Logic (FOLIO): first-order, twice")[0].endswith("(#logic-folio-first-order-twice)")

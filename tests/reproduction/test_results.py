"""Numbers, verdicts, tables and figures read off results."""

import pytest
import torch
from made_up import SIZE, made_up_results
from matplotlib.image import imread

from reckoning_betty.reproduction.claims import check
from reckoning_betty.reproduction.experiment import Claim, Experiment
from reckoning_betty.reproduction.figures import draw
from reckoning_betty.reproduction.results import Results, save_finished, save_what_is_new, spread
from reckoning_betty.reproduction.tables import markdown
from reckoning_betty.training.run_directory import read_json, write_json

RESULTS = made_up_results()


def claim(kind, points, **options):
    return Claim(says="x", kind=kind, arm="ours", points=points, **options)


def experiment(**options):
    return Experiment(name="made_up", title="Made up", source="S.", sizes={}, **({"figure": "hops"} | options))


def test_values_are_over_all_questions_or_some_hops():
    assert RESULTS.values("short", "ours", "label_accuracy") == pytest.approx([67.5, 75.0])
    assert RESULTS.values("short", "ours", "label_accuracy", [10]) == pytest.approx([90.0, 100.0])
    assert RESULTS.mean("short", "ours", "label_accuracy", [2, 10]) == pytest.approx(97.5)
    assert RESULTS.values("short", "ours", "exact") == [75.0, 75.0]
    assert RESULTS.values("short", "ours", "precision", [2]) == [50.0, 50.0]
    assert RESULTS.hops("short") == [2, 10]


def test_a_setting_counts_its_own_hops_where_all_are_asked_for():
    config = RESULTS.content["config"] | {"hops": {"short": [10]}}
    results = Results(RESULTS.content | {"config": config})
    assert results.values("short", "ours", "label_accuracy") == pytest.approx([90.0, 100.0])
    assert results.values("short", "ours", "label_accuracy", [2]) == [100.0, 100.0]
    assert results.values("long", "ours", "label_accuracy") == RESULTS.values("long", "ours", "label_accuracy")


def test_fewer_results_replace_those_of_another_config_alone(tmp_path):
    file, content = tmp_path / "results" / "made_up_small.json", RESULTS.content
    fewer = content | {"rows": content["rows"][1:]}
    save_what_is_new(content, file)
    save_what_is_new(fewer, file)
    assert read_json(file) == content
    other = fewer | {"config": content["config"] | {"seeds": (0,)}}
    save_what_is_new(other, file)
    assert read_json(file)["rows"] == fewer["rows"]
    save_what_is_new(other | {"rows": []}, file)
    assert read_json(file)["rows"] == fewer["rows"]


def test_results_that_are_read_again_keep_the_versions_they_were_found_with(tmp_path):
    file = tmp_path / "made_up_small.json"
    found = RESULTS.content | {"versions": {"torch": "2.9"}}
    assert save_finished(found, file) == read_json(file) == found
    again = RESULTS.content | {"versions": {"torch": "2.13"}}
    assert save_finished(again, file) == read_json(file) == found
    other = again | {"rows": again["rows"][1:]}
    assert save_finished(other, file) == read_json(file) == other


def test_spread_is_the_standard_deviation_of_a_sample():
    assert spread([1.0, 2.0, 4.0]) == pytest.approx(torch.tensor([1.0, 2.0, 4.0]).std().item())
    assert spread([3.0]) == 0.0


@pytest.mark.parametrize(
    ("asked", "found", "where"),
    [
        (("margin", "theirs", []), (71.25 - 60 + 48.75 - 56.25) / 2, ""),
        (("never_below", "theirs", []), 48.75 - 56.25, "long"),
        (("at_least", "", []), 48.75, "long"),
        (("at_most", "", []), 71.25, "short"),
        (("drop", "", []), 71.25 - 48.75, ""),
        (("at_least", "", [10]), 65.0, "long"),
    ],
)
def test_claims_are_decided_by_their_number(asked, found, where):
    kind, against, hops = asked
    at_bound = check(claim(kind, round(found, 6), against=against, hops=hops), RESULTS)
    assert (at_bound.found, at_bound.where) == (pytest.approx(found), where)
    below, above = (
        check(claim(kind, found + change, against=against, hops=hops), RESULTS).holds for change in (-0.01, 0.01)
    )
    assert (below, above) == ((False, True) if kind in ("drop", "at_most") else (True, False))


def test_claims_look_at_their_settings_alone():
    assert check(claim("margin", 0, against="theirs", settings=["short"]), RESULTS).found == pytest.approx(11.25)


def test_a_miss_by_less_than_a_decimal_is_told_with_three():
    assert check(claim("at_least", 48.8), RESULTS).told == "48.750 (long)"
    assert check(claim("at_least", 48.7), RESULTS).told == "48.7 (long)"
    assert check(claim("at_least", 49), RESULTS).told == "48.7 (long)"


def test_the_table_has_ours_beside_the_papers():
    text = markdown(experiment(paper={"ours": {"short": 80.0}}, claims=[claim("at_least", 70, hops=[10])]), RESULTS)
    assert "| setting | arm | all | 2 | 10 | paper | difference |" in text
    assert "| short | ours | 71.2 ± 5.3 | 100.0 ± 0.0 | 95.0 ± 7.1 | 80.0 | -8.8 |" in text
    assert "| long | theirs | 56.2 ± 5.3 | 100.0 ± 0.0 | 75.0 ± 7.1 |  |  |" in text
    assert "| x | 65.0 (long) | **no** |" in text
    assert "| short | ours | inner.steps=3 | 50.0 | chosen |" in text
    assert "| short | ours | inner.steps=4 | 50.0 |  |" in text
    assert text.count("inner.steps=3") == 1
    assert "| short | ours | 2 (2 to 2) | 40 | 100 |" in text
    assert "seeds 0, 1; commits abc; torch 2." in text


def test_trials_chosen_by_recall_too_show_it():
    chosen = [
        cell | {"trials": [trial | {"validation_recall": 0.25} for trial in cell["trials"]]}
        for cell in RESULTS.content["chosen"]
    ]
    chosen[0]["trials"][1] |= {"diverged": "L_CLM is not finite", "commit": "def"}
    config = SIZE | {"tuned_as": {"theirs": "ours"}}
    text = markdown(experiment(), Results(RESULTS.content | {"chosen": chosen, "config": config}))
    assert (
        "Trials with a seed of their own, chosen on validation by label accuracy and exact recall, in the mean "
        "(long takes short's choice; theirs takes ours's choice):" in text
    )
    assert "| setting | arm | tried | label accuracy | exact recall |  |" in text
    assert "| short | ours | inner.steps=3 | 50.0 | 25.0 | chosen |" in text
    assert "| short | ours | inner.steps=4 | diverged | diverged |  |" in text
    assert "commits abc, def;" in text


def test_the_papers_numbers_may_be_of_some_hops_alone():
    text = markdown(experiment(paper={"ours": {"short": {2: 80.0, 10: 99.0}}}), RESULTS)
    assert "| 80.0 (2), 99.0 (10) | +20.0 (2), -4.0 (10) |" in text


def without(*cells, seed=1):
    rows = [row for row in RESULTS.content["rows"] if (row["setting"], row["arm"]) not in cells or row["seed"] != seed]
    return Results(RESULTS.content | {"rows": rows})


def test_what_is_not_run_yet_is_said_and_decides_nothing(tmp_path):
    partial = without(("long", "ours"))
    claims = [claim("at_least", 70, settings=["short"]), claim("at_least", 70)]
    text = markdown(experiment(claims=claims), partial)
    assert "**Not finished: 1 runs are still to be done.**" in text
    assert "| x | 71.2 (short) | yes |\n| x |  | not run yet |" in text
    assert "| long | ours | 45.0 | 100.0 | 60.0 |" in text
    nothing = Results(RESULTS.content | {"rows": [row for row in partial.content["rows"] if row["seed"] > 1]})
    text = markdown(experiment(claims=claims), nothing)
    assert "No run is done yet" in text
    assert "| short | ours | inner.steps=4 | 50.0 |  |" in text
    for figure in ("hops", "settings", "sets"):
        for results in (partial, nothing):
            draw(experiment(figure=figure), results, tmp_path / "figure.png")


def test_few_answers_have_a_table_and_many_have_none():
    text = markdown(experiment(), RESULTS)
    assert "| setting | arm | no | yes |" in text
    assert "| short | ours | 0.0 ± 0.0 | 95.0 ± 7.1 |" in text
    many = {f"a{number}": {"n": 1, "label_accuracy": 1.0} for number in range(5)}
    rows = [row | {"label_accuracy_by_answer": many} for row in RESULTS.content["rows"]]
    assert "By answer" not in markdown(experiment(), Results(RESULTS.content | {"rows": rows}))


def test_recall_is_a_set_match_with_precision_and_recall():
    text = markdown(experiment(measure="exact"), RESULTS)
    assert "| setting | arm | all | precision | recall |" in text
    assert "| short | ours | 75.0 ± 0.0 | 40.0 ± 0.0 | 80.0 ± 0.0 |" in text


@pytest.mark.parametrize("figure", ["hops", "settings", "sets"])
def test_figures_are_drawn(figure, tmp_path):
    draw(experiment(figure=figure, paper={"ours": {"short": 80.0}}), RESULTS, tmp_path / "figure.png")
    pixels = imread(tmp_path / "figure.png")[..., :3]
    assert (pixels < 0.9).any(axis=-1).mean() > 0.005


def test_results_are_read_back(tmp_path):
    write_json(tmp_path / "made.json", RESULTS.content)
    assert Results(read_json(tmp_path / "made.json")).mean("long", "ours", "label_accuracy") == pytest.approx(48.75)

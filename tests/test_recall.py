from reckoning_betty.data.task import Question, Task
from reckoning_betty.recall import FOREIGN, named_facts, recall_table

FACTS = ("Dave is cold .", "Dave is cold and big .", "Eve is red .", "Dave is cold .")


def test_facts_are_found_without_separators_and_the_longest_goes_first():
    assert named_facts("Dave is cold and big .Eve is red.", FACTS) == [1, 2]
    assert named_facts("Dave is cold .\nDave is cold .", FACTS) == [0, 0]


def test_what_is_no_fact_counts_once_wherever_it_stands():
    assert named_facts("so . Dave is cold . then . now . Eve is red . the", FACTS) == [FOREIGN, 0, FOREIGN, 2, FOREIGN]
    assert named_facts("", FACTS) == []
    assert named_facts("Eve is blue .", FACTS) == [FOREIGN]
    assert named_facts("Eve is blue .", ()) == [FOREIGN]


def test_a_fact_within_another_sentence_is_not_named():
    assert named_facts("If Eve is big then Eve is red .Dave is cold .", FACTS) == [FOREIGN, 0]
    assert named_facts("Eve is red . Dave is cold and Eve is red .", FACTS) == [2, FOREIGN]
    unmarked = ("Dave is cold", "Eve is red")
    assert named_facts("Eve is red so Dave is cold", unmarked) == [1, FOREIGN, 0]


def asked(hops, relevant, facts=FACTS):
    return Task(facts=facts, questions=(Question(text="x ?", answer="y", hops=hops, relevant=relevant),))


def test_recall_is_exact_as_a_set_whatever_the_order():
    table = recall_table([asked(2, (1, 2))], ["Eve is red . Dave is cold and big ."])
    assert table == {"2": {"n": 1, "exact": 1.0, "precision": 1.0, "recall": 1.0}}


def test_equal_facts_are_one():
    assert recall_table([asked(1, (3,))], ["Dave is cold ."])["1"]["exact"] == 1.0


def test_what_is_missing_lowers_recall_and_what_is_too_much_precision():
    texts = ["Eve is red .", "Eve is red . Dave is cold and big . Dave is cold . nonsense", ""]
    table = recall_table([asked(3, (1, 2))] * 3, texts)
    assert table["3"] == {"n": 3, "exact": 0.0, "precision": (1 + 2 / 4 + 0) / 3, "recall": (1 / 2 + 1 + 0) / 3}


def test_where_nothing_is_relevant_naming_nothing_is_right():
    assert recall_table([asked(1, ())], [""])["1"] == {"n": 1, "exact": 1.0, "precision": 1.0, "recall": 1.0}
    assert recall_table([asked(1, ())], ["Eve is red ."])["1"] == {
        "n": 1,
        "exact": 0.0,
        "precision": 0.0,
        "recall": 1.0,
    }


def test_rows_are_in_the_order_of_hops():
    assert list(recall_table([asked(10, (2,)), asked(2, (2,))], ["", ""])) == ["2", "10"]

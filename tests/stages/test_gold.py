"""Gold answers, as published sets and people's own files hold them: .venv/bin/pytest tests/stages/test_gold.py"""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.metrics.metric import Answer
from s2l_ray.metrics.responses import judge_response, kind_of
from s2l_ray.recipe.registry import METRICS
from s2l_ray.rows.shape import detect_shapes, to_conversation
from s2l_ray.stages.gold import Gold, check_rows, checked_by, find_rule

CHOICES = ("ant", "whale", "cat")
CASES = [  # rows, preset, column, gold of the first
    ([{"question": "q", "answer": "48/2 = 24\n48+24 = 72\n#### 72"}], "gsm8k", "answer", "72"),
    ([{"question": "q", "answer": "so\n#### 1,250"}], "gsm8k", "answer", "1250"),
    ([{"problem": "p", "solution": "so \\boxed{\\frac{3}{4}}."}], "boxed", "the response", "\\frac{3}{4}"),
    ([{"problem": "p", "solution": "so \\boxed{1}.", "answer": "1"}], "text", "answer", "1"),
    ([{"instruction": "q", "output": "We add.\nThe answer is: 110"}], "stated", "the response", "110"),
    ([{"instruction": "q", "output": "There are 4 lids and 3 boxes, so 12 things."}], "last", "the response", "12"),
    ([{"instruction": "premise", "output": "entailment"}], "last", "the response", "entailment"),
    ([{"question": "q", "answer": True}, {"question": "q", "answer": False}], "boolean", "answer", "yes"),
    ([{"question": "q", "passage": "p", "answer": "no"}], "boolean", "answer", "no"),
    ([{"question": "q", "answers": {"text": ["Danube", "the Danube"], "answer_start": [3, 3]}}], "list", "answers", "Danube"),
    ([{"question": "q", "answer": {"value": "Rome", "aliases": ["Roma"]}}], "list", "answer", "Rome"),
    ([{"question": "q", "answer": 72}], "text", "answer", "72"),
    ([{"question": "q", "choices": list(CHOICES), "answer": 1}], "choice", "answer", "B"),
    ([{"question": "q", "choices": {"text": list(CHOICES), "label": ["1", "2", "3"]}, "answerKey": "2"}], "choice",
     "answerKey", "B"),
    ([{"ctx": "q", "endings": list(CHOICES), "label": "1"}], "choice", "label", "B"),
    ([{"question": "q", "options": ["A)21", "B)22"], "rationale": "why", "correct": "B"}], "choice", "correct", "B"),
    ([{"question": "q", "options": {"A": "ant", "B": "whale"}, "answer_idx": "B", "answer": "whale"}], "choice",
     "answer_idx", "B"),
    ([{"question": "q", "choices": ["3", "4"], "answer": "4"}], "choice", "answer", "B"),
]


def rows_of(rows):
    """Return each row with what it would teach."""
    shape = detect_shapes(rows)
    return [(row, to_conversation(row, shape).turns[-1].content) for row in rows]


@pytest.mark.parametrize(("rows", "preset", "column", "gold"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_where_gold_answers_are_is_found_from_the_rows(rows, preset, column, gold):
    rule = find_rule(rows_of(rows), "auto", None)
    assert (rule.preset, rule.column, rule.read(*rows_of(rows)[0]).accepted[0]) == (preset, column, gold)
    assert gold in rule.description and column in rule.description


def test_any_accepted_answer_is_right():
    ((row, response),) = rows_of([{"question": "q", "answer": ["Danube", "Donau"]}])
    gold = find_rule([(row, response)], "auto", None).read(row, response)
    assert gold == Gold(("Danube", "Donau"))
    assert [judge_response(said, gold.accepted).is_equal for said in ("Donau", "The answer is Danube.", "Rhine")] == [1, 1, 0]


@pytest.mark.parametrize(("said", "right"), [
    ("The answer is (B)", True), ("whale", True), ("B) whale", True), ("The answer is whale.", True),
    ("1", False), ("C", False), ("ant", False), ("It could be any of them.", False), ("The answer is (F).", False),
])
def test_a_choice_is_given_by_its_letter_or_its_text(said, right):
    assert judge_response(said, ("B",), CHOICES).is_equal is right


@pytest.mark.parametrize(("said", "gold", "right"), [
    ("She sells 24 more. The answer is 24.", "72", False), ("So the answer is 72 because 48+24=72.", "72", True),
    ("The answer is 5 m.", "5 cm", False), ("The answer is 5 cm.", "5", True), ("\\boxed{0.75}", "\\frac{3}{4}", True),
    ("<think>The answer is 3.</think> It is 4.", "4", True), ("<think>The answer is 4.", "4", False),
    ("1783", "Treaty of Paris (1783)", False), ("The answer is the Treaty of Paris (1783).", "Treaty of Paris (1783)", True),
    ("Answer: yes, because it has no divisors.", "yes", True), ("False. It is even.", "yes", False),
    ("Entailment.", "entailment", True), ("thus $x = \\boxed{2\\sqrt{3}}$", "\\sqrt{12}", True),
])
def test_a_response_is_judged_by_what_the_gold_answer_is(said, gold, right):
    assert judge_response(said, [gold]).is_equal is right


def test_what_a_gold_answer_is():
    kinds = {"72": "number", "5 cm": "number", "B": "choice", "yes": "boolean", "Danube": "text", "x^2": "expression"}
    assert {text: kind_of(text) for text in kinds} == kinds


@pytest.mark.parametrize("empty", ["", " ", None, float("nan"), []])
def test_a_row_without_gold_is_refused_by_its_place(empty):
    rows = [("eval.jsonl row 1", {"question": "q", "answer": "5"}, "5"), ("eval.jsonl row 2", {"question": "q", "answer": empty}, "")]
    rule = find_rule([(row, response) for _, row, response in rows], "auto", None)
    with pytest.raises(InputError, match=r"task t: eval.jsonl row 2 has no gold answer .*answer is missing or empty"):
        check_rows(rule, rows, "t")


def test_what_is_asked_for_is_read_or_refused():
    rows = rows_of([{"question": "q", "answer": "so 5\n#### 5", "other": "7"}])
    assert find_rule(rows, "auto", "other").read(*rows[0]) == Gold(("7",))
    assert find_rule(rows, "text", "answer").read(*rows[0]).accepted[0].endswith("#### 5")
    with pytest.raises(InputError, match=r"answer_column='nope': .* they have question, answer, other"):
        find_rule(rows, "auto", "nope")
    with pytest.raises(InputError, match=r"there is no .boxed\{\.\.\.\} in"):
        check_rows(find_rule(rows, "boxed", "answer"), [("row 1", *rows[0])], "t")


def test_exact_match_says_what_the_judges_did_not_agree_on():
    metric = METRICS.find("exact_match")
    score = metric.judge(Answer("The answer is $1+x$.", "", "x+1", ("x+1",)))
    assert score.value == 1 and score.remark == "our rules: no, math-verify: yes"
    assert metric.judge(Answer("5", "", None)).value == 0


def test_of_a_pool_only_rows_with_a_final_answer_can_be_checked():
    mixed = [{"instruction": "add", "output": "1 + 2 = 3. The answer is 3"}, {"instruction": "box", "output": "\\boxed{7}"},
             {"instruction": "tell", "output": "It was founded in 1969 by 4 friends."}, {"instruction": "name", "output": "x"}]
    rows = rows_of(mixed)
    rule = find_rule(rows, "auto", None)
    found = [checked_by(rule, row, response, "auto") for row, response in rows]
    assert [gold and gold.accepted for gold in found] == [("3",), ("7",), None, None], "the year is no answer"
    asked = find_rule(rows, "last", None)
    assert checked_by(asked, *rows[2], "last").accepted == ("4",), "where somebody says so, the last number is"
    long = rows_of([{"question": "q", "answer": "word " * 100}])
    assert checked_by(find_rule(long, "text", "answer"), *long[0], "text") is None, "an essay is no final answer"
    gap = [({"question": "q", "answer": None, "response": "r"}, "r"), ({"question": "q", "answer": "5"}, "5")]
    rule = find_rule(gap, "auto", None)
    assert [checked_by(rule, *row, "auto") is None for row in gap] == [True, False]

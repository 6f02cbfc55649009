"""Judge a response by the gold answer: what is extracted from it depends on what the gold answer is."""

from collections.abc import Sequence

from s2l_ray.metrics import rules
from s2l_ray.metrics.answers import Kind, extract_answer, spoken, without_reasons
from s2l_ray.metrics.equality import Verdict, judge
from s2l_ray.metrics.numerals import parse_quantity
from s2l_ray.metrics.spelling import clean
from s2l_ray.rows.choices import LETTERS


def response_is_correct(response: str, reference: str) -> bool:
    """Whether the answer extracted from `response`, or `response` as a whole, equals the reference answer."""
    return judge_response(response, [reference]).is_equal


def judge_response(response: str, accepted: Sequence[str], choices: Sequence[str] = ()) -> Verdict:
    """Return whether a response gives one of the accepted answers.

    Parameters
    ----------
    accepted
        Gold answers, any of which is right; with choices, the letter of the right one.
    choices
        The texts of a question's choices, A first: a response may give the letter or the text.
    """
    if choices:
        return Verdict(_chosen(response, choices) in accepted)
    verdicts = []
    for one in accepted:
        verdict = _judge_by(response, one)
        if verdict.is_equal:
            return verdict
        verdicts.append(verdict)
    return next((verdict for verdict in verdicts if verdict.disagreement), Verdict(False))


def kind_of(reference: str) -> Kind:
    """Return what a gold answer is."""
    text = clean(reference)
    if parse_quantity(text) is not None:
        return "number"
    if rules.normalise_answer(reference) in ("yes", "no"):
        return "boolean"
    if len(rules.normalise_answer(reference)) == 1 and reference.strip(" ().").upper() in LETTERS:
        return "choice"
    return "text" if rules.is_no_mathematics(text) else "expression"


def _judge_by(response: str, reference: str) -> Verdict:
    """Return whether a response gives one answer; what it says as a whole may be the answer too, as a label is."""
    if rules.verdict(spoken(response), reference):
        return Verdict(True)
    kind = kind_of(reference)
    found = [extract_answer(response, "text"), extract_answer(response, kind)]
    if kind == "text" and found[0] is not None:
        found.append(without_reasons(found[0]))
    explicit = without_reasons(found[0] or "")
    if kind == "number" and parse_quantity(clean(explicit)) is not None:  # with its unit: 5 m is not 5 cm
        found = [explicit]
    verdict = Verdict(False)
    for answer in dict.fromkeys(found[kind != "text" and len(found) > 1 :]):
        verdict = judge(answer, reference)
        if verdict.is_equal:
            return verdict
    return verdict


def _chosen(response: str, choices: Sequence[str]) -> str:
    """Return the letter that a response chooses, by itself or by the choice's text, "" where it chooses none."""
    letter = extract_answer(response, "choice")
    if letter is None or LETTERS.index(letter) >= len(choices):
        given = [spoken(response), extract_answer(response, "text") or ""]
        matching = [index for index, text in enumerate(choices) if any(rules.verdict(one, text) for one in given)]
        return LETTERS[matching[0]] if len(matching) == 1 else ""
    return letter

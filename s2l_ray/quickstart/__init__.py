"""The data and the small base models of `s2l quickstart`: arithmetic word problems, made on the spot.

`problems.py` draws the candidate pool and the held-out problems from the skills in `skills.py`;
`tests/quickstart/make_base.py` made the tokenizer and the two base models in `assets/`. Nothing is downloaded.
"""

from pathlib import Path

ASSETS = Path(__file__).resolve().parent / "assets"

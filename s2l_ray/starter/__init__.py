"""A recipe for somebody's own file, without a question: what `s2l select FILE`, `s2l run FILE` and `s2l init FILE` use.

`look.py` reads the file, `vocabulary.py` learns a tokenizer from it, `recipe.py` writes the recipe. No download.
"""

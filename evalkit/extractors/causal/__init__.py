"""Causal language models as instruments: what a text costs, token by token, in one batched forward.

`columns` names the numbers of a row, `windows` cuts texts that are longer than a model's context, `streaming` reads the
vocabulary in slices, `reading` forms batches of like length, `instrument` joins them; `hub` and `llama2c` are backends,
`pair` holds two models against each other.
"""

"""The gate: rules of a configuration held against a run record, and a verdict that a pipeline can act on.

`rules` reads what is asked, `names` finds the number, `changes` says how sure a difference is, `verdicts` judges,
`running` does it all for records or files, `outputs` writes what a pipeline reads.
"""

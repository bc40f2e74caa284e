"""The provider's side: which machine-readable marks a generator's outputs carry, and what these outlive.

`marks` finds marks in one file, `passages` are what a file goes through, `surveying` counts, `asking` decides what was
asked for, `study` says it; `embedding` and `writing` put marks into images, so that all this can be tried end to end.
"""

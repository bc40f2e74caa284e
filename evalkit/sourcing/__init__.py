"""Which source made a sample, or none of those known: attribution with rejection, and its confusion matrix."""

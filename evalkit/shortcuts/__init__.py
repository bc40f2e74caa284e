"""What a set of real and machine texts gives away without being read: trivial rules, and what cleaning leaves of them.

`rules` are the rules, `openings` what texts share with each other, `areas` AUROC of groups of texts, `choosing` the
best rule, `sentences` and `cleaning` what can be cleaned, `keeping` writes it, `beside` is what stands beside a
detector's number, `auditing` the whole audit and `study` its words.
"""

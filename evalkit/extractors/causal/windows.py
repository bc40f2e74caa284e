"""How a text longer than a model's context is read: in windows, each token predicted in exactly one of them.

A text is a sequence s of m tokens, its prefix token included where it has one; s[0] is never predicted. Two layouts:

- rolling, of lm-evaluation-harness (`get_rolling_token_windows`): the first window predicts as many tokens as it reads,
  and each next one as many again; the last one is moved back so that it is full, and what it reads of tokens already
  predicted is context alone. With `least` tokens of context for every window the stride is context - least + 1.
- strided, of the Hugging Face documentation: windows of `context` tokens begin every `stride` tokens, and each predicts
  what the one before did not. Its last token is predicted and not read, so a window predicts context - 1 tokens.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import BadSetting


class Window(NamedTuple):
    """Reads s[start:stop], predicts s[start + 1 : stop + 1]; of these s[first : stop + 1] count."""

    start: int
    stop: int
    first: int


def rolling(m: int, context: int, least: int = 1) -> list[Window]:
    """Windows of a sequence of m tokens, s[0] being the prefix; none for m < 2.

    BadSetting unless 1 <= least <= context. `get_rolling_token_windows` and `make_disjoint_window` of the harness.
    """
    if not 1 <= least <= context:
        raise BadSetting(f"windows of {context} tokens cannot have {least} of context; expected 1 to {context}")
    done = min(context, m - 1)
    found = [Window(0, done, 1)] if done > 0 else []
    while done < m - 1:
        stop = min(m - 1, done + context - least + 1)
        found.append(Window(stop - context, stop, done + 1))
        done = stop
    return found


def strided(m: int, context: int, stride: int) -> list[Window]:
    """Windows of a sequence of m tokens that begin every `stride` tokens; BadSetting unless 1 <= stride < context.

    With stride = context the first token of every window would be predicted in none.
    """
    if not 1 <= stride < context:
        raise BadSetting(f"stride = {stride}; expected 1 to {context - 1}, less than the context of {context} tokens")
    found, done = [], 1
    for start in range(0, m, stride):
        stop = min(start + context, m) - 1
        if stop >= done:
            found.append(Window(start, stop, done))
            done = stop + 1
        if done >= m:
            break
    return found

"""What a writer does to a text so that a detector lets it pass: nine named, seeded edits that need no network.

The eight of RAID (Dugan et al. 2024, section 4.2) that need no language model, and its alternative spelling.
"""

from __future__ import annotations

from .edits import ATTACKS, Edited, TextAttack, attack_of, attacks_of

__all__ = ["ATTACKS", "Edited", "TextAttack", "attack_of", "attacks_of"]

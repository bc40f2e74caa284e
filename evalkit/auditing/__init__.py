"""What an audit does: one verdict a file, with evidence, a false-discovery rate and a chain of custody."""

"""Commands of the command line, a file for each family of them; `evalkit.cli` puts them together."""

"""Large models, in the layout of the catalogue."""

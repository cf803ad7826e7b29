"""Large models beside NUTS."""

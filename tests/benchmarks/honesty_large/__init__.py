"""Fits of large models whose error is known, and what is said of them."""

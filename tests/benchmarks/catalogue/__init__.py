"""Every model of a public catalogue, fitted, timed and judged."""

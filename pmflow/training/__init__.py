"""Training: the step, the loop over steps, and what to say when a step fails."""

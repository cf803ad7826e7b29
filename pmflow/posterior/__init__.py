"""A PyMC model as a density over its latent vector."""

__all__: list[str] = []

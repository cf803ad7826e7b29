"""Fitting a flow: NFVI, and a file from which a fit goes on."""

from pmflow.inference.nfvi import NFVI

__all__ = ["NFVI"]

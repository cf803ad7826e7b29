"""Fitting a flow: NFVI, and a file from which a fit goes on."""

from pmflow.inference.nfvi import NFVI, refuse_with

__all__ = ["NFVI", "refuse_with"]

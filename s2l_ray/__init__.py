"""S2L (SmallToLarge) data selection for fine-tuning language models, on Ray."""

__version__ = "0.1.0"

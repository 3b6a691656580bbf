"""The control command: what root does for one application on its host. Standard library only."""

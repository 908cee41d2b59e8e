"""The truth on disk: the journal of an area, its state file, its locks."""

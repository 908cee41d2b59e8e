"""The main job on real input, in a minute (`gangline demo`)."""

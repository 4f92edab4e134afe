"""archshift: what should run where, and why. Ten rooms, the front door ``survey``, and the command line."""

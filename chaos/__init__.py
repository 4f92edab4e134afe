"""Random faults during a ramp, on a lab of its own, with what must hold checked throughout."""

"""When the next step may be taken: the dates, and the gate that asks Prometheus."""

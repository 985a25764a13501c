"""What must hold while processes die, stop or lose each other. Short here; `make faults` runs it at full count."""

"""On the line: inspect, watch, monitor, certify, and the record of what was decided."""

"""How fast populations are evaluated: workloads, engines, the limits of the machine."""

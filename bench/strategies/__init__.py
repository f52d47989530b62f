"""Search strategies against each other: equal budgets, many seeds, any-time curves with intervals, significance."""

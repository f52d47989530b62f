"""Training-free architecture search: candidates, scores, winners, regret where the truth is known."""

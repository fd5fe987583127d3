"""stellarctl, the operator's command line."""

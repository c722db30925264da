"""From predictions to scores, intervals and verdicts."""

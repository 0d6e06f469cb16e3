"""The report: the paper's tables and figures, measured beside published, from run folders alone."""

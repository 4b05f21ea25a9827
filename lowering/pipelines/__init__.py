"""The pipelines: from a level to the thread level, one file for each level they begin at."""

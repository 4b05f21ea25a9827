"""
What is looked for besides faults of single accesses.

Races by happens-before (clocks, marks, races, global_races), hazards in the text (hazards,
registers), what is left when threads exit (leaving), who waits for whom (deadlock).
"""

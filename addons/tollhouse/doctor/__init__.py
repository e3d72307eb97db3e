"""`tollhouse doctor`: is there a way out but Tollhouse? It runs in a workload's place, where nothing of ours is installed.

plan     what the probe has to know, from the configuration
probe    the probe: one file of plain Python, 3.8 or newer, which imports nothing of ours
"""

"""People that do not exist, for a first run without data.

brains  simulated from tissue maps
knees   drawn from tables of shapes
files   how both are written to disk
"""
